"""The methods of Adams: their weights, their loops written out by hand, what they remember and what they cost."""

import math
from itertools import pairwise

import pytest
import torch

from deqlight import InputError, Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.interpolation import horner
from deqlight.solvers import AB1, AB2, AB3, AB4, ABM2, ABM3, ABM4, RK4, Euler, Heun
from deqlight.states import tree_map

FAMILY = [AB1(), AB3(), AB4(), ABM2(), ABM3(), ABM4()]
REMEMBERING = FAMILY[1:]

ORDER_TOLERANCE = 0.1
"""What the next term of the error leaves of a slope between 256 and 512 steps."""

ROUNDING = 1e-14
"""Some tens of operations on numbers of size one, in another order."""

pytestmark = pytest.mark.usefixtures("double")


def field(t, y):
    return -2 * t * y * y  # y = 1/(c + t²)


def exact(t):
    return 1 / (torch.tensor([[1.0, 1.5], [2.0, 2.5]]) + t * t)


def path(solver, times, term=None, y0=None):
    """States, steps and memories along these times."""
    term, y = ODETerm(field) if term is None else term, exact(times[0]) if y0 is None else y0
    carry, steps = solver.init(term, times[0], times[-1], y), []
    for t0, t1 in pairwise(times):
        steps.append(solver.step(term.over(t0, t1), t0, t1, y, carry))
        y, carry = steps[-1].y, steps[-1].carry
    return steps


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
def test_the_weights_integrate_polynomials_of_their_degree(solver):
    for newest, weights in ((0, solver.predictor), (1, solver.corrector)):
        for power in range(len(weights)):
            area = sum(w * float(newest - j) ** power for j, w in enumerate(weights))
            assert area == pytest.approx(1 / (power + 1), abs=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ab1_is_euler_bit_for_bit(dtype):
    times, y0 = [0.0, 0.3, 0.4, 1.1], exact(0.0).to(dtype)
    a, b = (solve(ODETerm(field), y0, times, solver=solver) for solver in (AB1(), Euler()))
    assert torch.equal(a.ys, b.ys) and torch.equal(a.stats.nfe, b.stats.nfe)


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
@pytest.mark.parametrize("direction", [1, -1], ids=["forwards", "backwards"])
def test_order(solver, direction):
    def error(steps):
        times = [n / steps for n in range(steps + 1)][::direction]
        steps = path(solver, times)
        return max(float((step.y - exact(t)).abs().max()) for t, step in zip(times[1:], steps, strict=True))

    assert math.log2(error(256) / error(512)) == pytest.approx(solver.info.order, abs=ORDER_TOLERANCE)


@pytest.mark.parametrize("solver", REMEMBERING, ids=repr)
def test_cost_is_what_info_says_from_the_last_starting_step_on(solver):
    info = solver.info
    for steps in (info.steps - 1, info.steps, info.steps + 5):
        solution = solve(ODETerm(field), exact(0.0), [0.0, 1.0], solver=solver, controller=Constant(steps=steps))
        assert solution.stats.nfe.tolist() == [info.nfe_start + info.nfe_step * steps] * 2


def test_abm4_is_the_loop_written_out():
    h, times = 0.125, [n / 8 for n in range(9)]
    y = [exact(0.0)]
    for t in times[:3]:
        a = field(t, y[-1])
        b = field(t + h / 2, y[-1] + h / 2 * a)
        c = field(t + h / 2, y[-1] + h / 2 * b)
        y.append(y[-1] + h / 6 * (a + 2 * b + 2 * c + field(t + h, y[-1] + h * c)))
    f = [field(t, u) for t, u in zip(times, y, strict=False)]
    for n in range(3, 8):
        p = y[n] + h / 24 * (55 * f[n] - 59 * f[n - 1] + 37 * f[n - 2] - 9 * f[n - 3])
        y.append(y[n] + h / 24 * (9 * field(times[n + 1], p) + 19 * f[n] - 5 * f[n - 1] + f[n - 2]))
        f.append(field(times[n + 1], y[n + 1]))
    torch.testing.assert_close(path(ABM4(), times)[-1].y, y[-1], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("solver", "starter"), [(AB3(), Heun()), (AB4(), RK4()), (ABM3(), Heun()), (ABM4(), RK4())])
def test_the_first_steps_are_the_starters(solver, starter):
    times = [0.0, 0.25, 0.5, 0.75]
    start = solver.info.steps - 1
    for ours, theirs in zip(path(solver, times)[:start], path(starter, times)[:start], strict=True):
        assert torch.equal(ours.y, theirs.y)


def test_abm2_predicts_by_ab2_and_corrects_by_trapezoids():
    h, times = 0.25, [0.0, 0.25, 0.5]
    predicted, corrected = path(AB2(), times)[0], path(ABM2(), times)
    assert not torch.equal(predicted.y, corrected[0].y)  # Euler's step there, Heun's here
    y0, y1 = exact(0.0), corrected[0].y
    p = y1 + h / 2 * (3 * field(h, y1) - field(0.0, y0))
    by_hand = y1 + h / 2 * (field(2 * h, p) + field(h, y1))
    torch.testing.assert_close(corrected[1].y, by_hand, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
def test_memory_is_batch_first_and_no_longer_than_needed(solver):
    steps = path(solver, [n / 8 for n in range(9)])
    assert [len(step.carry) for step in steps] == [min(n, solver.info.steps - 1) for n in range(1, 9)]
    assert all(slope.shape == (2, 2) for step in steps for slope in step.carry)


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
def test_samples_go_on_alone_with_their_rows_of_the_memory(solver):
    times = [n / 8 for n in range(9)]
    whole, half = path(solver, times), path(solver, times[:5])[-1]
    y, carry = half.y[1:], tree_map(lambda leaf: leaf[torch.tensor([1])], half.carry)
    for t0, t1 in pairwise(times[4:]):
        step = solver.step(ODETerm(field), t0, t1, y, carry)
        y, carry = step.y, step.carry
    assert torch.equal(y, whole[-1].y[1:])


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
def test_between_the_ends_it_is_hermites_cubic_at_one_evaluation(solver):
    times, calls = [n / 8 for n in range(9)], []

    def counted(t, y):
        calls.append(t)
        return field(t, y)

    steps = path(solver, times)
    for n in (0, 7):
        y0 = exact(0.0) if n == 0 else steps[n - 1].y
        coefficients = solver.dense(ODETerm(counted), times[n], times[n + 1], y0, steps[n])
        h, y1 = 1 / 8, steps[n].y
        torch.testing.assert_close(horner(coefficients, 0.0), y0, rtol=0, atol=0)
        torch.testing.assert_close(horner(coefficients, 1.0), y1, rtol=0, atol=ROUNDING)
        middle = (y0 + y1) / 2 + h / 8 * (field(times[n], y0) - field(times[n + 1], y1))
        torch.testing.assert_close(horner(coefficients, 0.5), middle, rtol=0, atol=ROUNDING)
    assert calls == [times[1], times[8]]


@pytest.mark.parametrize("solver", REMEMBERING, ids=repr)
def test_unequal_steps_are_refused(solver):
    with pytest.raises(InputError, match="needs steps of one length"):
        solve(ODETerm(field), exact(0.0), [0.0, 0.1, 1.0], solver=solver)


def test_on_layers_it_adds_the_slopes_of_the_layers_below():
    layers = [torch.nn.Linear(3, 3) for _ in range(5)]
    blocks = [lambda t, y, layer=layer: torch.tanh(layer(y)) for layer in layers]
    x = torch.randn(2, 3)
    y = [x]
    for n in (0, 1):
        slope = blocks[n](n, y[n])
        y.append(y[n] + (slope + blocks[n](n + 1, y[n] + slope)) / 2)
    for n in (2, 3, 4):
        below = (blocks[n - j](n - j, y[n - j]) for j in range(3))
        y.append(y[n] + sum(w * slope for w, slope in zip((23 / 12, -16 / 12, 5 / 12), below, strict=True)))
    ys = solve(Layered(blocks), x, range(6), solver=AB3()).ys
    torch.testing.assert_close(ys, torch.stack(y), rtol=0, atol=ROUNDING)


def test_tuples_of_tensors_are_treated_leaf_by_leaf():
    y0 = exact(0.0)
    pair = ODETerm(lambda t, y: tuple(field(t, leaf) for leaf in y))
    both = path(ABM4(), [n / 8 for n in range(9)], pair, (y0, y0[:, 0]))[-1].y
    one = path(ABM4(), [n / 8 for n in range(9)])[-1].y
    torch.testing.assert_close(both, (one, one[:, 0]), rtol=0, atol=ROUNDING)  # a tensor's slopes are summed at once
