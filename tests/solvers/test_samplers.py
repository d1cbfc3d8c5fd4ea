"""Samplers: orders on a mixture whose noise is known exactly, identities, the last step, and what is refused."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from deqlight import solve
from deqlight.errors import InputError
from deqlight.gaussians import Gaussian, GaussianMixture
from deqlight.schedules import VP, UniformLogSNR, UniformTime
from deqlight.solvers import (
    AB2,
    DDIM,
    DEIS,
    PNDM,
    RK4,
    AngularPC,
    DPMFast,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMSolver2,
    DPMSolver3,
    EDMHeun,
    Euler,
    Heun,
    UniPC,
)
from deqlight.terms import Denoising

pytestmark = pytest.mark.usefixtures("double")

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]], [0.09, 0.04, 0.16])
SCHEDULE = VP(0.1, 20.0, t_min=0.02)
SAME = 1e-12


def flow(target=MIXTURE):
    return Denoising(target.eps, SCHEDULE)


@cache
def start():
    rho = SCHEDULE.rho_ends[0]
    return rho * torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sampled(solver, steps, grid=UniformLogSNR, term=None, to_zero=False):
    times = grid(to_zero=to_zero).times(SCHEDULE, steps)
    return solve(term or flow(), start(), times, solver=solver)


@cache
def truth():
    return sampled(RK4(), 4000).y1


def error(solver, steps):
    return float((sampled(solver, steps).y1 - truth()).square().mean().sqrt())


FULL = {"lower_final": False}
ORDERS = [
    *((solver, order) for solver, order in ((DDIM(), 1), (DPMSolver2(), 2), (DPMSolver3(), 3), (DPMpp2S(), 2))),
    *((solver, order) for solver, order in ((DPMpp2M(**FULL), 2), (DPMpp3M(**FULL), 3), (PNDM(), 2), (EDMHeun(), 2))),
    *((DEIS(order, **FULL), order) for order in (1, 2, 3, 4)),
    *((UniPC(order, variant, **FULL), order + 1) for order in (1, 2, 3) for variant in ("bh1", "bh2")),
    *((UniPC(order, correct=False, **FULL), order) for order in (1, 2, 3)),
    *((AngularPC(order, **FULL), order + 1) for order in (1, 2, 3)),
    *((AngularPC(order, correct=False, **FULL), order) for order in (2, 3)),
    *(
        (solver, 2)
        for solver in (DPMpp2M(), DPMpp3M(), DEIS(3, lower_final=True), UniPC(3), AngularPC(3, lower_final=True))
    ),
]


@pytest.mark.parametrize(("solver", "order"), ORDERS, ids=lambda value: repr(value))
def test_orders_on_a_mixture(solver, order):
    """VP, t from 1 to 0.02, even in log-SNR, 320 and 640 steps: third orders of several steps still begin, at 160."""
    slope = math.log2(error(solver, 320) / error(solver, 640))
    assert slope == pytest.approx(order, abs=0.2 if order <= 3 else 0.4)
    assert solver.info.order == order


@pytest.mark.parametrize("solver", [solver for solver, _ in ORDERS], ids=repr)
def test_evaluations_are_as_stated(solver):
    info = solver.info
    for steps in (3, 5, 10, 33):
        solution = sampled(solver, steps)
        assert int(solution.stats.nfe[0]) == info.nfe_start + steps * info.nfe_step
    last = sampled(solver, 10, to_zero=True)
    fewer = info.nfe_step - 1 if info.steps == 1 else 0
    assert int(last.stats.nfe[0]) == info.nfe_start + 10 * info.nfe_step - fewer and bool(last.y1.isfinite().all())


@pytest.mark.parametrize("grid", [UniformLogSNR, UniformTime])
def test_methods_of_first_order_are_one(grid):
    """DDIM = Euler's method = tAB0 = UniP-1; and in x, α₁ D + σ₁ ε."""
    ddim = sampled(DDIM(), 12, grid).y1
    for other in (Euler(), DEIS(1), UniPC(1, correct=False)):
        assert torch.allclose(sampled(other, 12, grid).y1, ddim, rtol=0, atol=SAME * float(start().abs().max()))
    times, y = grid().times(SCHEDULE, 12), start()
    for a, b in pairwise(times):
        s, t = SCHEDULE.time(a), SCHEDULE.time(b)
        x = SCHEDULE.alpha(s) * y
        eps = MIXTURE.eps(a, y)
        data = (x - SCHEDULE.sigma(s) * eps) / SCHEDULE.alpha(s)
        y = (SCHEDULE.alpha(t) * data + SCHEDULE.sigma(t) * eps) / SCHEDULE.alpha(t)
    assert torch.allclose(y, ddim, rtol=1e-9, atol=1e-10)


def test_methods_of_higher_order_that_are_one():
    """EDM's step is Heun's; UniP-2 with B(h) = eʰ − 1 is DPM-Solver++(2M); ρAB2 is AB2."""
    for one, other in (
        (EDMHeun(), Heun()),
        (UniPC(2, correct=False), DPMpp2M()),
        (AngularPC(1, correct=False), DDIM()),
        (DEIS(2, "rho"), AB2()),
    ):
        assert torch.allclose(sampled(one, 15).y1, sampled(other, 15).y1, rtol=1e-9, atol=1e-10), one


def test_the_published_step_of_second_order_in_x():
    """DPM-Solver++(2M) as its paper writes it, with α and σ, over three uneven steps."""
    rhos = [80.0, 20.0, 3.0, 0.5]
    got = solve(flow(), start(), rhos, solver=DPMpp2M(lower_final=False)).y1
    times = [SCHEDULE.time(rho) for rho in rhos]
    x, before = SCHEDULE.alpha(times[0]) * start(), None
    for k, (s, t) in enumerate(pairwise(times)):
        h = SCHEDULE.lam(t) - SCHEDULE.lam(s)
        y = x / SCHEDULE.alpha(s)
        data = MIXTURE.data(SCHEDULE.rho(s), y)
        mixed = data
        if before is not None:
            r = (SCHEDULE.lam(s) - SCHEDULE.lam(times[k - 1])) / h
            mixed = (1 + 1 / (2 * r)) * data - before / (2 * r)
        x = SCHEDULE.sigma(t) / SCHEDULE.sigma(s) * x - SCHEDULE.alpha(t) * math.expm1(-h) * mixed
        before = data
    assert torch.allclose(got, x / SCHEDULE.alpha(times[-1]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("solver", [DDIM(), DPMpp2M(), DPMpp3M(), DEIS(3), UniPC(2), DPMSolver3(), EDMHeun()], ids=repr)
def test_a_point_is_found_in_any_number_of_steps_to_no_noise(solver):
    """Data that are one point: every estimate is that point, and the last step returns it."""
    point = Gaussian([0.7, -0.3], [[1e-12, 0.0], [0.0, 1e-12]])
    y1 = sampled(solver, 4, term=flow(point), to_zero=True).y1
    assert torch.allclose(y1, torch.tensor([0.7, -0.3]).expand(16, 2), atol=1e-5)


@pytest.mark.parametrize("solver", [DPMpp3M(), UniPC(3), DEIS(3), AngularPC(3), PNDM()], ids=repr)
def test_moments_of_a_gaussian_are_its_own(solver):
    """400 steps: samples of the flow are an affine map of the start, the exact one of a Gaussian."""
    target = Gaussian([0.5, -1.0], [[0.6, 0.2], [0.2, 0.3]])
    high, low = SCHEDULE.rho_ends
    y1 = sampled(solver, 400, term=flow(target)).y1
    assert torch.allclose(y1, target.flow(high, low, start()), atol=2e-4)


def test_noise_comes_back_from_data():
    """The flow the other way, by a one-step sampler: from samples to the noise that makes them."""
    times = UniformLogSNR().times(SCHEDULE, 200)
    there = solve(flow(), start(), times, solver=DPMSolver3()).y1
    back = solve(flow(), there, times[::-1], solver=DPMSolver3()).y1
    assert torch.allclose(back, start(), rtol=1e-3, atol=0.05)


def test_samples_do_not_depend_on_their_batch():
    times = UniformLogSNR().times(SCHEDULE, 10)
    alone = solve(flow(), start()[3:4], times, solver=UniPC(2)).y1
    assert torch.allclose(alone, sampled(UniPC(2), 10).y1[3:4], rtol=1e-13)


def test_gradients_go_through_samplers():
    """With respect to the field's parameters, against a difference."""
    shift = torch.tensor(0.1, requires_grad=True)

    def made(shift):
        term = Denoising(lambda rho, y: MIXTURE.eps(rho, y) + shift * torch.tanh(y))
        return solve(term, start()[:2], [5.0, 2.0, 1.0, 0.0], solver=UniPC(2)).y1.sum()

    (grad,) = torch.autograd.grad(made(shift), shift)
    ends = [float(made(shift.detach() + d)) for d in (1e-6, -1e-6)]
    assert float(grad) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DEIS(5), "orders 1 to 4"),
        (lambda: DEIS(2, "sigma"), "t, rho, lambda"),
        (lambda: UniPC(4), "orders 1 to 3"),
        (lambda: UniPC(2, "bh3"), "bh1, bh2"),
        (lambda: AngularPC(5), "orders 1 to 4"),
        (lambda: AngularPC(2, scale=0.0), "positive and finite"),
        (lambda: DPMFast(0), "at least"),
    ],
)
def test_other_options_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_what_is_no_way_of_noise_is_refused():
    with pytest.raises(InputError, match="begins above 0"):
        solve(flow(), start(), [0.0, 1.0], solver=DDIM())
    levels = torch.tensor(np.array([[5.0] * 16, [1.0 + k / 16 for k in range(16)]]))
    with pytest.raises(InputError, match="a batch shares them"):
        solve(flow(), start(), levels, solver=DPMpp2M())
