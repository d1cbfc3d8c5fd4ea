"""Explicit Runge–Kutta methods in use: their orders, what they give between steps, and the error of Dopri8."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import DOP853, RK23, RK45

from deqlight import Layered, ODETerm, solve
from deqlight.interpolation import horner
from deqlight.solvers import RK4, RK38, SSPRK3, Bosh3, Dopri5, Dopri8, Euler, Heun, Midpoint, Ralston, Tsit5
from deqlight.states import leaves

METHODS = [cls() for cls in (Euler, Midpoint, Heun, Ralston, SSPRK3, RK4, RK38, Bosh3, Dopri5, Tsit5, Dopri8)]
CONTINUOUS = [Bosh3(), Dopri5(), Tsit5(), Dopri8()]

ORDER_TOLERANCE = 0.15
"""What the next term of the error leaves of a slope over the last doubling, where errors are still above 1e-13."""

ROUNDING = 1e-13
"""Some hundred operations on numbers of size one."""

SINGLE = 1e-4
"""The same in float32, for an error estimate that is a thousandth of what it is a difference of."""

DENSE_ROUNDING = 1e-12
"""The same between the ends of a step of Dopri8, where coefficients of some hundreds cancel."""

pytestmark = pytest.mark.usefixtures("double")


def runge(t, y):
    return -2 * t * y * y


def bells(t):
    """The solution of `runge`."""
    return 1 / (torch.tensor([[1.0, 1.5], [2.0, 2.5]]) + t * t)


def turning(t, y):
    return (1 + t) * torch.stack([-y[..., 1], y[..., 0]], -1)


def circles(t):
    """The solution of `turning`, fast enough to show an order of 8 before rounding."""
    angle = torch.tensor([0.0, 1.0]) + t + t * t / 2
    return torch.stack([angle.cos(), angle.sin()], -1)


def problem(solver):
    """Field, solution, end, and the number of steps from which on a doubling shows the order."""
    if solver.info.order == 8:
        return turning, circles, 3.0, 24
    return runge, bells, 1.0, {1: 256, 2: 64, 3: 64, 4: 32, 5: 32}[solver.info.order]


class Counted:
    """A field that counts its calls."""

    def __init__(self, field):
        self.field, self.calls = field, 0

    def __call__(self, t, y):
        self.calls += 1
        return self.field(t, y)


def stepped(solver, times, y0, field=runge):
    """Each step along these times: its ends, its state before, and what `step` returned."""
    term, y = ODETerm(field), y0
    carry, steps = solver.init(term, times[0], times[-1], y0), []
    for t0, t1 in pairwise(times):
        step = solver.step(term, t0, t1, y, carry)
        steps.append((t0, t1, y, step))
        y, carry = step.y, step.carry
    return steps


def between(solver, t0, t1, y0, step, x, field=runge):
    return horner(solver.dense(ODETerm(field), t0, t1, y0, step), x)


def rate(error, steps):
    return math.log2(error(steps) / error(2 * steps))


@pytest.mark.parametrize("solver", METHODS, ids=repr)
@pytest.mark.parametrize("direction", [1, -1], ids=["forwards", "backwards"])
def test_order_on_problems_that_depend_on_time(solver, direction):
    field, exact, end, enough = problem(solver)

    def error(steps):
        times = [end * n / steps for n in range(steps + 1)][::direction]
        y1 = solve(ODETerm(field), exact(times[0]), times, solver=solver).y1
        return float((y1 - exact(times[-1])).abs().max())

    assert rate(error, enough) == pytest.approx(solver.info.order, abs=ORDER_TOLERANCE)


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_order_between_the_steps(solver):
    field, exact, end, enough = problem(solver)

    def error(steps):
        path = stepped(solver, [end * n / steps for n in range(steps + 1)], exact(0.0), field)
        gaps = [
            between(solver, *step, x, field) - exact(step[0] + x * (step[1] - step[0]))
            for step in path
            for x in (0.3, 0.5, 0.7)
        ]
        return float(torch.stack(gaps).abs().max())

    claimed = solver.info.dense_order or min(solver.info.order, 4)
    assert rate(error, enough) == pytest.approx(claimed, abs=ORDER_TOLERANCE)


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [(Euler(), 1), (RK4(), 1), (Bosh3(), 0), (Dopri5(), 0), (Tsit5(), 0), (Dopri8(), 3)],
    ids=repr,
)
def test_between_the_ends_no_evaluation_is_made_twice(solver, evaluations):
    (step,) = stepped(solver, [0.2, 0.5], bells(0.2))
    field = Counted(runge)
    solver.dense(ODETerm(field), *step)
    assert field.calls == evaluations


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_the_polynomial_meets_both_states(solver):
    (step,) = stepped(solver, [0.2, 0.5], bells(0.2))
    torch.testing.assert_close(between(solver, *step, 0.0), step[2], rtol=0, atol=0)
    torch.testing.assert_close(between(solver, *step, 1.0), step[3].y, rtol=0, atol=DENSE_ROUNDING)


@pytest.mark.parametrize(("solver", "peer"), [(Bosh3(), RK23), (Dopri5(), RK45), (Dopri8(), DOP853)], ids=repr)
def test_a_step_and_all_between_its_ends_are_those_of_scipy(solver, peer):
    t0, h, y0 = 0.2, 0.3, bells(0.2)
    theirs = peer(runge, t0, y0.flatten().numpy(), t0 + h, first_step=h, rtol=1, atol=1)
    theirs.step()
    (step,) = stepped(solver, [t0, t0 + h], y0)
    np.testing.assert_allclose(step[3].y.flatten(), theirs.y, rtol=0, atol=ROUNDING)
    for x in (0.1, 0.35, 0.8):
        ours = between(solver, *step, x)
        np.testing.assert_allclose(ours.flatten(), theirs.dense_output()(t0 + x * h), rtol=0, atol=DENSE_ROUNDING)


@pytest.mark.parametrize(("solver", "peer"), [(Bosh3(), RK23), (Dopri5(), RK45)], ids=repr)
def test_the_error_estimate_is_that_of_scipy(solver, peer):
    t0, h, y0 = 0.2, 0.3, bells(0.2)
    theirs = peer(runge, t0, y0.flatten().numpy(), t0 + h, first_step=h, rtol=1, atol=1)
    theirs.step()
    (step,) = stepped(solver, [t0, t0 + h], y0)
    np.testing.assert_allclose(-step[3].error.flatten(), theirs.K.T @ theirs.E * h, rtol=0, atol=ROUNDING)


def test_the_error_of_dopri8_is_that_of_scipy_sample_by_sample():
    t0, h, y0 = 0.2, 0.3, bells(0.2)
    (step,) = stepped(Dopri8(), [t0, t0 + h], y0)
    for sample, error in zip(y0, step[3].error, strict=True):
        theirs = DOP853(runge, t0, sample.numpy(), t0 + h, first_step=h, rtol=1, atol=1)
        theirs.step()
        norm = theirs._estimate_error_norm(theirs.K, h, np.ones(len(sample)))
        assert float(error.square().mean().sqrt()) == pytest.approx(norm, rel=1e-6)  # of an error of some 1e-9


def test_the_error_of_dopri8_shrinks_with_the_eighth_power():
    def error(steps):
        ((*_, step),) = stepped(Dopri8(), [0.0, 1 / steps], circles(0.0), turning)
        return float(step.error.abs().max())

    assert rate(error, 4) == pytest.approx(Dopri8().info.error_order, abs=2 * ORDER_TOLERANCE)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_where_nothing_changes_the_error_of_dopri8_is_zero(shape, dtype):
    y0 = torch.ones(shape, dtype=dtype)
    ((*_, step),) = stepped(Dopri8(), [0.0, 1.0], y0, lambda t, y: 0 * y)
    assert step.error.shape == y0.shape and step.error.dtype == dtype
    assert torch.equal(step.error, torch.zeros_like(y0)) and torch.equal(step.y, y0)


def test_the_error_of_dopri8_on_leaves_of_several_kinds_knows_its_own_sample_alone():
    y0 = (torch.rand(3, 2), torch.rand(3).float(), torch.rand(3, 2, 2))

    def field(t, y):
        return tuple(-leaf * leaf.flatten(1).sum(1).reshape(-1, *[1] * (leaf.dim() - 1)) for leaf in map(axes, y))

    def axes(leaf):
        return leaf if leaf.dim() > 1 else leaf[:, None]

    def shaped(t, y):
        return tuple(value.reshape(leaf.shape) for value, leaf in zip(field(t, y), y, strict=True))

    ((*_, whole),) = stepped(Dopri8(), [0.0, 0.5], y0, shaped)
    for i in range(3):
        ((*_, alone),) = stepped(Dopri8(), [0.0, 0.5], tuple(leaf[i : i + 1] for leaf in y0), shaped)
        for a, b in zip(leaves(whole.error), leaves(alone.error), strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=SINGLE if b.dtype == torch.float32 else ROUNDING, atol=0)
            assert float(b.abs().max()) > 0


@pytest.mark.parametrize("solver", CONTINUOUS, ids=repr)
def test_each_sample_may_have_its_own_clock(solver):
    t0, t1 = torch.tensor([[0.1], [0.4]]), torch.tensor([[0.3], [0.2]])
    y0 = torch.stack([bells(0.1)[0], bells(0.4)[1]])
    (step,) = stepped(solver, [t0, t1], y0)
    x = torch.tensor([0.25, 0.75])
    both = between(solver, *step, x)
    for i in range(2):
        (alone,) = stepped(solver, [float(t0[i]), float(t1[i])], y0[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], between(solver, *alone, float(x[i])), rtol=0, atol=DENSE_ROUNDING)


@pytest.mark.parametrize("solver", CONTINUOUS, ids=repr)
def test_on_layers_the_polynomial_of_a_step_is_that_of_its_own_layer(solver):
    term, y, carry = Layered([lambda t, y: -y, lambda t, y: y * y]), torch.full((1, 1), 0.5), None
    for n in (0.0, 1.0):
        layer = term.over(n, n + 1)
        step = solver.step(layer, n, n + 1, y, carry)
        (alone,) = stepped(solver, [n, n + 1], y, layer.vf)
        torch.testing.assert_close(
            horner(solver.dense(layer, n, n + 1, y, step), 0.4), between(solver, *alone, 0.4, layer.vf), rtol=0, atol=0
        )
        y, carry = step.y, step.carry
        assert carry is None


def test_ssprk3_is_the_convex_combination_of_euler_steps():
    t, h, y0 = 0.2, 0.3, bells(0.2)
    u1 = y0 + h * runge(t, y0)
    u2 = 3 / 4 * y0 + 1 / 4 * (u1 + h * runge(t + h, u1))
    y1 = 1 / 3 * y0 + 2 / 3 * (u2 + h * runge(t + h / 2, u2))
    ((*_, step),) = stepped(SSPRK3(), [t, t + h], y0)
    torch.testing.assert_close(step.y, y1, rtol=0, atol=ROUNDING)


def test_ssprk3_keeps_the_total_variation_of_an_upwind_step():
    """Transport of a jump, at the longest step for which Euler's method keeps it; RK4 does not promise to."""
    y0 = (torch.arange(64) < 32).double()[None]
    ((*_, step),) = stepped(SSPRK3(), [0.0, 1.0], y0, lambda t, y: y.roll(1, -1) - y)
    assert float((step.y.roll(1, -1) - step.y).abs().sum()) <= 2 + ROUNDING


def test_the_38_rule_is_not_the_classical_method():
    y0 = bells(0.2)
    ends = [stepped(solver, [0.2, 0.7], y0)[0][3].y for solver in (RK4(), RK38())]
    assert 1e-7 < float((ends[0] - ends[1]).abs().max()) < 1e-2
