"""Samplers of few steps: last steps of lower order, a number of evaluations that is kept, steps that are measured."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import nn

from deqlight import SaveAt, solve
from deqlight.controllers import PID
from deqlight.errors import InputError
from deqlight.gaussians import GaussianMixture
from deqlight.gradients import Checkpoint
from deqlight.schedules import VP, FlowTime, Karras, UniformLogSNR
from deqlight.solvers import (
    DDIM,
    DEIS,
    AngularPC,
    DPMFast,
    DPMpp2M,
    DPMpp3M,
    DPMSolver2,
    DPMSolver3,
    UniPC,
)
from deqlight.solvers.angular import _integrals
from deqlight.solvers.unipc import _moved
from deqlight.terms import Denoising

pytestmark = pytest.mark.usefixtures("double")

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]], [0.09, 0.04, 0.16])
SCHEDULE = VP(0.1, 20.0, t_min=0.02)
SAME = 1e-12
ROUNDING = 1e-9
"""Of one formula in two orders of summation, at y of some 150."""

MULTISTEP = [DPMpp2M(), DPMpp3M(), DEIS(3), DEIS(4), UniPC(1), UniPC(2), UniPC(3), AngularPC(3), AngularPC(4)]


@cache
def start():
    rho = SCHEDULE.rho_ends[0]
    return rho * torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sampled(solver, steps, grid=None, **options):
    grid = grid or UniformLogSNR()
    return solve(Denoising(MIXTURE.eps, SCHEDULE), start(), grid.times(SCHEDULE, steps), solver=solver, **options)


@cache
def truth():
    return solve(
        Denoising(MIXTURE.eps),
        start(),
        list(SCHEDULE.rho_ends),
        solver=DPMSolver3(),
        controller=PID(1e-11, 1e-11, norm="joint"),
        max_steps=100_000,
    ).y1


def error(y):
    return float((y - truth()).square().mean().sqrt())


@pytest.mark.parametrize("nfe", range(1, 20))
def test_fast_makes_as_many_evaluations_as_it_was_given(nfe):
    solver = DPMFast(nfe)
    assert sum(solver.orders) == nfe and solver.steps == nfe // 3 + 1
    assert int(sampled(solver, solver.steps).stats.nfe[0]) == nfe


def test_fast_refuses_other_grids_and_says_which_it_takes():
    for steps in (3, 5):
        with pytest.raises(InputError, match=rf"got {steps} steps; 10 evaluations are 4 steps, of the orders \(3, "):
            sampled(DPMFast(10), steps)
    with pytest.raises(InputError, match="not known beforehand"):
        sampled(DPMFast(10), 1, controller=PID(1e-3, 1e-3, norm="joint"))
    with pytest.raises(InputError, match="noise rises"):
        solve(Denoising(MIXTURE.eps), start(), [0.1, 0.2, 0.4, 0.8, 1.6], solver=DPMFast(10))
    with pytest.raises(InputError, match="ends at 0"):
        sampled(DPMFast(11), 4, UniformLogSNR(to_zero=True))
    assert int(sampled(DPMFast(10), 4, UniformLogSNR(to_zero=True)).stats.nfe[0]) == 10


def test_fast_is_made_of_the_methods_of_its_orders():
    times = UniformLogSNR().times(SCHEDULE, 3)
    y = start()
    for solver, (a, b) in zip((DPMSolver3(), DPMSolver2(), DDIM()), pairwise(times), strict=True):
        y = solve(Denoising(MIXTURE.eps), y, [a, b], solver=solver).y1
    assert torch.allclose(sampled(DPMFast(6), 3).y1, y, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("solver", [DPMSolver2(), DPMSolver3()], ids=repr)
def test_a_smaller_tolerance_is_a_smaller_error(solver):
    """By 100 each time; the error follows, by 10 at least."""
    errors, evaluations = [], []
    for power in (2, 4, 6):
        made = sampled(solver, 1, controller=PID(10.0**-power, 10.0**-power, norm="joint"), max_steps=100_000)
        errors.append(error(made.y1))
        evaluations.append(int(made.stats.nfe[0]))
    assert errors[0] > 10 * errors[1] > 100 * errors[2] and evaluations == sorted(evaluations)
    assert errors[2] < 1e-3


def test_a_measured_solve_may_go_down_to_no_noise():
    made = solve(
        Denoising(MIXTURE.eps),
        start(),
        [SCHEDULE.rho_ends[0], 0.0],
        solver=DPMSolver3(),
        controller=PID(1e-4, 1e-4, norm="joint"),
    )
    low = SCHEDULE.rho_ends[1]
    there = solve(Denoising(MIXTURE.eps), truth(), [low, low / 10, low / 100, 0.0], solver=DPMSolver3()).y1
    assert float((made.y1 - there).abs().max()) < 1e-2


@pytest.mark.parametrize(
    ("lowered", "full", "changed"),
    [
        (DPMpp2M(), DPMpp2M(lower_final=False), 1),
        (DPMpp3M(), DPMpp3M(lower_final=False), 2),
        (UniPC(3), UniPC(3, lower_final=False), 2),
        (DEIS(4, lower_final=True), DEIS(4), 3),
        (AngularPC(2, lower_final=True), AngularPC(2), 1),
    ],
    ids=repr,
)
def test_the_last_steps_are_of_lower_order(lowered, full, changed):
    """No step before is another; the last ones are those of as many points as there are steps left."""
    a, b = (sampled(solver, 8).ys for solver in (lowered, full))
    same = [bool(torch.equal(x, y)) for x, y in zip(a, b, strict=True)]
    assert same == [True] * (9 - changed) + [False] * changed
    assert lowered.info.order == 2


def test_lower_orders_need_to_know_the_end():
    """Nor do they come where noise rises, at whose end there is most."""
    for solver, full in ((DPMpp3M(), DPMpp3M(lower_final=False)), (UniPC(2), UniPC(2, lower_final=False))):
        rising = [0.5, 0.7, 1.0, 1.5, 2.2, 3.0]
        made = [solve(Denoising(MIXTURE.eps), truth(), rising, solver=one).y1 for one in (solver, full)]
        assert torch.equal(*made)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_is_a_prediction_and_its_correction(order):
    """As the paper has it: the corrected state is formed, and the next prediction begins at it."""
    predictor = UniPC(order, correct=False, lower_final=False)
    rhos, y, known = UniformLogSNR().times(SCHEDULE, 6), start(), []
    term = Denoising(MIXTURE.eps, SCHEDULE)

    def moved(points, end):
        behind = [rho for rho, _ in points]
        weights = predictor.weights(term, end, (*behind,), len(behind), 0)
        return weights[0], sum(w * d for w, (_, d) in zip(weights[1:], points, strict=True))

    for n, (a, b) in enumerate(pairwise(rhos)):
        known = known or [(a, MIXTURE.data(a, y))]
        share, ahead = moved(known[:order], b)
        predicted = share * y + ahead
        if n == 5:
            break
        new = (b, MIXTURE.data(b, predicted))
        points = known[: min(order, n + 1)]
        corrected_weights = _corrected(points, b)
        y = share * y + sum(w * d for w, (_, d) in zip(corrected_weights, [*points, new], strict=True))
        known = [new, *known]
    assert torch.allclose(sampled(UniPC(order, lower_final=False), 6).y1, predicted, rtol=ROUNDING, atol=ROUNDING)


def _corrected(points, end):
    return _moved("bh2", end, points[0][0], [*(rho for rho, _ in points), end])[1:]


@pytest.mark.parametrize("solver", MULTISTEP, ids=repr)
def test_weights_keep_a_point_where_it_is(solver):
    """Data that are one point: the estimates are it, and so is a step from it."""
    rhos, term = (0.9, 1.6, 2.9, 5.0, 9.0), Denoising(MIXTURE.eps, SCHEDULE)
    for known in range(1, solver.kept + 2):
        points = min(known, solver.order)
        weights = solver.weights(term, 0.4, rhos[:known], points, max(0, min(known - 1, solver.order)))
        assert sum(weights) == pytest.approx(1.0 if not isinstance(solver, DEIS) else 1.0 + 0.4 - 0.9, abs=SAME)


@pytest.mark.parametrize("power", range(4))
def test_powers_of_the_angle_are_integrated_exactly(power):
    """Against the midpoint rule with 200 000 points."""
    rhos, end, scale = (2.0, 3.5, 6.0, 11.0), 0.7, 2.0
    found = sum(
        w * math.atan(rho / scale) ** power for w, rho in zip(_integrals(scale, 2.0, end, rhos), rhos, strict=True)
    )
    count = 200_000
    rho = end + (2.0 - end) * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    exact = float((torch.atan(rho / scale) ** power / rho**2).sum() * (2.0 - end) / count * end)
    assert found == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("solver", MULTISTEP, ids=repr)
def test_estimates_side_by_side_are_those_one_by_one(solver):
    """With a gradient to keep, and in another dtype, each is a tensor of its own; all numbers are the same."""
    y0 = start().clone().requires_grad_()
    times = UniformLogSNR().times(SCHEDULE, 7)
    apart = solve(Denoising(MIXTURE.eps, SCHEDULE), y0, times, solver=solver)
    beside = sampled(solver, 7)
    assert torch.allclose(apart.ys.detach(), beside.ys, rtol=ROUNDING, atol=ROUNDING)
    last = sampled(solver, 7, saveat=SaveAt(final=True)).y1
    assert torch.equal(last, beside.y1)
    pair = solve(
        Denoising(lambda rho, y: tuple(MIXTURE.eps(rho, part) for part in y), SCHEDULE),
        (start(), start().flip(0)),
        times,
        solver=solver,
    ).y1
    assert torch.allclose(pair[0], last, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("solver", [DPMpp3M(), DEIS(4), UniPC(2), AngularPC(3)], ids=repr)
def test_a_field_may_keep_what_it_was_given(solver):
    """No state that has been seen is written to again."""
    seen = []

    def field(rho, y):
        seen.append((y, y.clone()))
        return MIXTURE.eps(rho, y)

    solve(Denoising(field, SCHEDULE), start(), UniformLogSNR().times(SCHEDULE, 9), solver=solver)
    assert all(torch.equal(y, then) for y, then in seen)


@pytest.mark.parametrize("solver", [DPMpp2M(), DPMpp3M(), DEIS(4), UniPC(3), AngularPC(3)], ids=repr)
def test_memories_that_a_gradient_keeps_are_not_written_over(solver):
    """`Checkpoint` goes forward without a graph, and comes back to memories it kept on the way."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def gradient(*rule):
        term = Denoising(lambda rho, y: MIXTURE.eps(rho, y) + 0.1 * net(y), SCHEDULE, context=tuple(net.parameters()))
        options = {"gradient": rule[0]} if rule else {}
        y1 = solve(term, start(), UniformLogSNR().times(SCHEDULE, 9), solver=solver, **options).y1
        return torch.cat([grad.flatten() for grad in torch.autograd.grad(y1.square().sum(), list(net.parameters()))])

    assert torch.allclose(gradient(Checkpoint()), gradient(), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_states_of_other_dtypes_come_out_as_they_went_in(dtype):
    times = FlowTime().times(SCHEDULE, 6)
    for solver in MULTISTEP:
        y1 = solve(Denoising(MIXTURE.eps, SCHEDULE), start().to(dtype), times, solver=solver).y1
        exact = sampled(solver, 6, FlowTime()).y1
        most = 1e-3 if dtype == torch.float32 else 2.0  # eight bits of noise that is 150 times the data
        assert y1.dtype == dtype and float((y1.double() - exact).abs().max()) < most


def test_the_grid_of_a_sampler_has_less_error_than_karras():
    """At ten steps on a mixture that nothing was chosen on."""
    for solver in (DDIM(), DPMpp2M(), DPMpp3M(), UniPC(2), UniPC(3), DEIS(3), AngularPC(3), AngularPC(4)):
        assert error(sampled(solver, 10, solver.grid).y1) < 0.7 * error(sampled(solver, 10, Karras()).y1), solver
