"""Samplers that draw noise: their law on Gaussians without sampling, published formulas, keys, limits, refusals."""

import math
import pickle
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from deqlight import solve
from deqlight.brownian import Increments, Key, keyed
from deqlight.brownian.on_grid import OnGrid
from deqlight.controllers import PID
from deqlight.errors import InputError
from deqlight.gaussians import GaussianMixture
from deqlight.gradients import Backsolve, Checkpoint, Reversible
from deqlight.saveat import SaveAt
from deqlight.schedules import EDM, VE, VP, DDPMTable, Karras, UniformLogSNR, UniformTime
from deqlight.solvers import (
    DDIM,
    DDPM,
    RK4,
    SRK,
    AnalyticDPM,
    DPMpp2M,
    EDMHeun,
    Euler,
    EulerMaruyama,
    Heun,
    NoisePower,
    PredictorCorrector,
    ReverseDiffusion,
    SDEDPMpp2M,
    noise_power,
)
from deqlight.solvers.score import second_normal
from deqlight.terms import Denoising, ReverseSDE

pytestmark = pytest.mark.usefixtures("double")

SCHEDULE = VP(0.1, 20.0, t_min=0.02)
MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[1.0, 0.5], [-1.2, 0.3], [0.2, -1.5]], [0.09, 0.04, 0.16])
MEAN, VARIANCE = 0.6, 0.25
EXACT = 1e-12  # rounding of variances of order one, reached over noise of some hundred
NEAR = 0.1  # of a slope from 160 to 320 steps
SAME = 1e-12  # relatively, of one step computed in two ways

DRAWING = [DDIM(0.5), DDIM(1.0), DDPM(), DDPM("forward"), EulerMaruyama(), ReverseDiffusion(), SDEDPMpp2M()]


def power(rho):
    """E|ε|² of one number of the Gaussian."""
    return rho**2 / (VARIANCE + rho**2)


ANALYTIC = [AnalyticDPM(power), AnalyticDPM(power, eta=0.0), AnalyticDPM(power, eta=0.5)]
CHURNED = EDMHeun(churn=3.0)
CORRECTED = PredictorCorrector(ReverseDiffusion())


def gaussian(rho, y):
    return rho * (y - MEAN) / (VARIANCE + rho**2)


def levels(steps, grid=UniformLogSNR, to_zero=False, schedule=SCHEDULE):
    return grid(to_zero=to_zero).times(schedule, steps)


def law(solver, rhos, eta=1.0, schedule=SCHEDULE):
    """Mean and variance after a solve from the right law, by one solve in which each row has one of all numbers."""
    times = tuple(sorted(rhos))
    steps, lengths = len(times) - 1, torch.tensor(times).diff()
    w, u = torch.zeros(2 * steps + 2, steps, 1), torch.zeros(2 * steps + 2, steps, 1)
    w[2 : steps + 2, :, 0] = lengths.sqrt().diag()
    u[2 : steps + 2, :, 0] = (lengths**1.5 / 2).diag()
    u[steps + 2 :, :, 0] = (lengths**3 / 12).sqrt().diag()
    y0 = torch.zeros(2 * steps + 2, 1)
    y0[1] = 1.0
    term = ReverseSDE(gaussian, schedule, eta=eta)._replace(path=OnGrid(times, w, u))
    ends = solve(term, y0, rhos, solver=solver, max_steps=steps).y1[:, 0]
    start, gain = float(ends[0]), float(ends[1] - ends[0])
    drawn = float((ends[2:] - ends[0]).square().sum())
    return start + gain * MEAN, gain**2 * (VARIANCE + rhos[0] ** 2) + drawn


def variance_error(solver, steps, **options):
    rhos = levels(steps)
    return abs(law(solver, rhos, **options)[1] - VARIANCE - rhos[-1] ** 2)


SLOPES = [
    *((solver, 1.0) for solver in DRAWING[:-1]),
    (SDEDPMpp2M(), 2.0),
    (CHURNED, 2.0),
    (AnalyticDPM(lambda rho: 0.5 * power(rho)), 1.0),
]


@pytest.mark.parametrize(("solver", "slope"), SLOPES, ids=lambda value: str(value))
def test_slopes_of_the_variance(solver, slope):
    """VP, t from 1 to 0.02, even in log-SNR, 160 and 320 steps."""
    assert math.log2(variance_error(solver, 160) / variance_error(solver, 320)) == pytest.approx(slope, abs=NEAR)


@pytest.mark.parametrize("solver", [*DRAWING[:4], *ANALYTIC], ids=repr)
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_means_of_ancestral_samplers_are_exact(solver, steps):
    assert law(solver, levels(steps))[0] == pytest.approx(MEAN, abs=1e-11)  # beside noise of 150


@pytest.mark.parametrize("solver", ANALYTIC, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_the_best_variance_is_exact_in_any_number_of_steps(solver, steps):
    assert variance_error(solver, steps) < EXACT
    assert variance_error(DDPM(), steps) > 1e-3 and variance_error(DDPM("forward"), steps) > 1e-3


@pytest.mark.parametrize("solver", [Euler(), SRK()], ids=repr)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_solvers_of_any_stochastic_equation_sample(solver, eta):
    errors = [variance_error(solver, steps, eta=eta) for steps in (160, 320)]
    assert math.log2(errors[0] / errors[1]) > solver.info.weak_order - NEAR and errors[1] < 0.05


def test_levels_need_not_be_even():
    """EDM's levels, and DDPM's labels, on which f and g jump: there a rule that reads them shows no clean order."""
    ancestral = [(DDPM(), 1.0), (ReverseDiffusion(), 1.0), (SDEDPMpp2M(), 2.0)]
    for schedule, grid, solvers in (
        (EDM(), Karras, [*ancestral, (EulerMaruyama(), 1.0)]),
        (DDPMTable(1000), UniformTime, ancestral),
    ):
        for solver, slope in solvers:
            grids = [grid().times(schedule, steps) for steps in (333, 999)]
            errors = [abs(law(solver, rhos, schedule=schedule)[1] - VARIANCE - rhos[-1] ** 2) for rhos in grids]
            assert math.log(errors[0] / errors[1], 3) == pytest.approx(slope, abs=NEAR), (solver, schedule)


def step(solver, rho0, rho1, schedule=SCHEDULE, target=MIXTURE):
    """A step from some points, the noise estimate there, and the normal numbers of the step."""
    y0 = rho0 * torch.tensor([[0.3, -0.8], [1.2, 0.1], [-0.4, 0.9]])
    times = (rho1, rho0)
    path = Increments(seed=3).draw(y0, _grid(times), solver.info.area)
    term = ReverseSDE(target.eps, schedule)._replace(path=path, levels=times)
    return solver.step(term, rho0, rho1, y0, None).y, y0, target.eps(rho0, y0), term.normal(rho0, rho1)


def _grid(times):
    from deqlight.brownian import Grid

    return Grid(lambda: times, True)


def same(a, b):
    return torch.allclose(a, b, rtol=SAME, atol=SAME * float(b.abs().max()))


PLACES = [(80.0, 20.0), (3.0, 2.9), (0.7, 0.1)]


@pytest.mark.parametrize(("rho0", "rho1"), PLACES)
def test_ddim_with_all_noise_is_ddpm_and_the_first_order_of_sde_dpm_solver(rho0, rho1):
    ddim, y0, eps, z = step(DDIM(1.0), rho0, rho1)
    assert same(ddim, step(DDPM(), rho0, rho1)[0]) and same(ddim, step(SDEDPMpp2M(), rho0, rho1)[0])
    s, t = SCHEDULE.time(rho0), SCHEDULE.time(rho1)
    h, x = SCHEDULE.lam(t) - SCHEDULE.lam(s), SCHEDULE.alpha(s) * y0
    keep = SCHEDULE.sigma(t) / SCHEDULE.sigma(s) * math.exp(-h)
    new = -math.expm1(-2 * h)
    x = keep * x + SCHEDULE.alpha(t) * new * (y0 - rho0 * eps) + SCHEDULE.sigma(t) * math.sqrt(new) * z
    assert same(ddim, x / SCHEDULE.alpha(t))


def test_ddim_as_published():
    """With half of the noise, in x and ᾱ."""
    got, y0, eps, z = step(DDIM(0.5), 3.0, 1.2)
    a, b = 1 / (1 + 3.0**2), 1 / (1 + 1.2**2)
    std = 0.5 * math.sqrt((1 - b) / (1 - a) * (1 - a / b))
    x = math.sqrt(a) * y0
    x = math.sqrt(b) * (x - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - b - std**2) * eps + std * z
    assert same(got, x / math.sqrt(b))


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_ddpm_as_published(variance):
    """Labels 600 and 599 of the table: (x − β ε/√(1 − ᾱ))/√(1 − β) + σ z with β or β̃."""
    table = DDPMTable(1000)
    rho0, rho1 = table.rho(601 / 1000), table.rho(600 / 1000)
    got, y0, eps, z = step(DDPM(variance), rho0, rho1, table)
    beta, bar = table.betas[600], np.cumprod(1 - table.betas)
    var = beta if variance == "forward" else beta * (1 - bar[599]) / (1 - bar[600])
    x = math.sqrt(bar[600]) * y0
    x = (x - beta / math.sqrt(1 - bar[600]) * eps) / math.sqrt(1 - beta) + math.sqrt(var) * z
    assert torch.allclose(got, x / math.sqrt(bar[599]), rtol=1e-9, atol=1e-9)  # ρ has gone through the table


def test_reverse_diffusion_as_published():
    """Of VP, (2 − √(1 − β)) x + β s + √β z; of VE, x + (σ₀² − σ₁²) s + √(σ₀² − σ₁²) z, which is DDPM's step there."""
    rho0, rho1 = 2.0, 1.7
    got, y0, eps, z = step(ReverseDiffusion(), rho0, rho1)
    before, after = SCHEDULE.time(rho0), SCHEDULE.time(rho1)
    beta = 1 - (SCHEDULE.alpha(before) / SCHEDULE.alpha(after)) ** 2
    score = -eps / SCHEDULE.sigma(before)
    x = (2 - math.sqrt(1 - beta)) * SCHEDULE.alpha(before) * y0 + beta * score + math.sqrt(beta) * z
    assert same(got, x / SCHEDULE.alpha(after))
    ve, y0, eps, z = step(ReverseDiffusion(), rho0, rho1, VE())
    added = rho0**2 - rho1**2
    assert same(ve, y0 - added * eps / rho0 + math.sqrt(added) * z)
    assert same(ve, step(DDPM("forward"), rho0, rho1, None)[0])


@pytest.mark.parametrize("schedule", [SCHEDULE, VE(), None], ids=["VP", "VE", "none"])
def test_euler_and_maruyama_as_published(schedule):
    rho0, rho1 = 2.0, 1.7
    got, y0, eps, z = step(EulerMaruyama(), rho0, rho1, schedule)
    if schedule is None:  # σ = eᵗ
        h = math.log(rho0 / rho1)
        expected = y0 - h * 2 * rho0 * eps + math.sqrt(2 * h) * rho0 * z
    else:
        s, t = schedule.time(rho0), schedule.time(rho1)
        x, score, g = schedule.alpha(s) * y0, -eps / schedule.sigma(s), schedule.diffusion(s)
        x = x - (schedule.drift(s) * x - g**2 * score) * (s - t) + g * math.sqrt(s - t) * z
        expected = x / schedule.alpha(t)
    assert same(got, expected)


def test_the_corrector_as_published():
    rho0, rho1, snr = 2.0, 1.7, 0.2
    solver = PredictorCorrector(DDPM(), snr=snr)
    got, y0, _, _ = step(solver, rho0, rho1)
    predicted = step(DDPM(), rho0, rho1)[0]
    path = Increments(seed=3).draw(y0, _grid((rho1, rho0)), solver.info.area)
    z = second_normal(ReverseSDE(MIXTURE.eps)._replace(path=path), rho0, rho1)
    score = -MIXTURE.eps(rho1, predicted) / rho1
    delta = 2 * (snr * z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)) ** 2
    assert same(got, predicted + delta * score + (2 * delta).sqrt() * z)


def test_the_two_normal_numbers_of_a_step_are_independent():
    y0 = torch.zeros(400, 500)
    term = ReverseSDE(MIXTURE.eps, brownian=Increments(seed=0)).drawn(y0, _grid((2.0, 0.5)), CORRECTED.info.area)
    one, two = term.normal(2.0, 0.5), second_normal(term, 2.0, 0.5)
    few = 4 / math.sqrt(one.numel())  # four deviations of a mean of so many
    for value, expected in ((one, 0), (two, 0), (one**2, 1), (two**2, 1), (one * two, 0)):
        assert float(value.mean()) == pytest.approx(expected, abs=2 * few)


def test_a_corrector_leaves_the_law_as_it_is_up_to_snr_squared():
    """32 samples of 4000 numbers; the predictor's law is exact. The balance of one step of Langevin's: snr²."""
    generator = torch.Generator().manual_seed(0)
    rhos = levels(20)
    y0 = MEAN + math.sqrt(VARIANCE + rhos[0] ** 2) * torch.randn(32, 4000, generator=generator)
    term = ReverseSDE(gaussian, SCHEDULE, brownian=Increments(seed=5))

    def share(snr):
        end = solve(term, y0, rhos, solver=PredictorCorrector(AnalyticDPM(power), snr)).y1
        return float(end.var()) / (VARIANCE + rhos[-1] ** 2) - 1

    rounding = 3 * math.sqrt(2 / y0.numel())  # three deviations of a variance of so many
    assert -rounding < share(0.05) < 0.05**2 + rounding
    assert 0.3 * 0.16**2 < share(0.16) < 0.16**2 + rounding
    assert share(0.5) > 0.1  # and this test would see more


@pytest.mark.parametrize("to_zero", [False, True])
def test_ddim_without_noise_is_what_it_was(to_zero):
    rhos = levels(10, to_zero=to_zero)
    y = rhos[0] * torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    end = solve(Denoising(MIXTURE.eps, SCHEDULE), y, rhos, solver=DDIM()).y1
    for a, b in pairwise(rhos):
        y = torch.add(y, MIXTURE.eps(a, y), alpha=b - a)
    assert torch.equal(end, y) and repr(DDIM()) == "DDIM" and repr(EDMHeun()) == "EDMHeun"


ALL = [*DRAWING, *ANALYTIC, CHURNED, CORRECTED]


@pytest.mark.parametrize("solver", ALL, ids=repr)
def test_a_sample_is_its_own_whatever_its_batch(solver):
    rhos, starts = levels(6, to_zero=True), torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(1))

    def sampled(ids):
        term = ReverseSDE(gaussian, SCHEDULE)
        with keyed(Key(7, ids=torch.tensor(ids))):
            return solve(term, rhos[0] * starts[ids], rhos, solver=solver).y1

    together, some = sampled(list(range(40))), sampled([3, 17, 30])
    assert torch.equal(together[[3, 17, 30]], some) and torch.equal(together[17:18], sampled([17]))


@pytest.mark.parametrize("solver", ALL, ids=repr)
def test_the_last_step_draws_nothing_and_costs_one_evaluation(solver):
    y0, rhos = torch.tensor([[0.8, -0.2]]), [0.5, 0.0]
    unchurned = (
        EDMHeun(3.0, churn_min=0.6) if solver is CHURNED else solver
    )  # which draws in the last step as published
    ends = [
        solve(ReverseSDE(MIXTURE.eps, brownian=Increments(seed=seed)), y0, rhos, solver=unchurned) for seed in (0, 1)
    ]
    assert torch.equal(ends[0].y1, ends[1].y1) and int(ends[0].stats.nfe[0]) == 1
    assert same(ends[0].y1, MIXTURE.data(0.5, y0))


@pytest.mark.parametrize("solver", ALL, ids=repr)
def test_evaluations_are_as_stated(solver):
    y0 = 80 * torch.ones(2, 2)
    term = ReverseSDE(MIXTURE.eps, SCHEDULE, brownian=Increments(seed=0))
    last = solve(term, y0, levels(7, to_zero=True), solver=solver)
    assert int(last.stats.nfe[0]) == 7 * solver.info.nfe_step - (solver.info.nfe_step - 1)


def seen(solver, rhos, schedule=SCHEDULE):
    """The levels at which the field is asked."""
    asked = list[float]()

    def field(rho, y):
        asked.append(rho)
        return MIXTURE.eps(rho, y)

    y0 = rhos[0] * torch.ones(1, 2)
    solve(ReverseSDE(field, schedule, brownian=Increments(seed=0)), y0, rhos, solver=solver)
    return asked


def test_churn_keeps_to_its_limits():
    rhos = levels(10)
    assert max(seen(EDMHeun(1e9), rhos)) == rhos[0]  # the noisy end of the schedule
    free = seen(EDMHeun(1e9), rhos, schedule=None)[::2]
    assert free == pytest.approx([math.sqrt(2) * rho for rho in rhos[:-1]])
    shared = seen(EDMHeun(2.0), rhos, schedule=None)[::2]
    assert shared == pytest.approx([1.2 * rho for rho in rhos[:-1]])
    some = seen(EDMHeun(2.0, churn_min=rhos[6], churn_max=rhos[3]), rhos, schedule=None)[::2]
    assert some == pytest.approx([1.2 * rho if 3 <= k <= 6 else rho for k, rho in enumerate(rhos[:-1])])


def test_churn_as_published():
    rho0, rho1 = 2.0, 1.5
    solver = EDMHeun(0.3, churn_noise=1.003)  # of one step: γ = 0.3
    got, y0, _, z = step(solver, rho0, rho1, None)
    up = 1.3 * rho0
    y = y0 + 1.003 * math.sqrt(up**2 - rho0**2) * z
    d = MIXTURE.eps(up, y)
    ahead = y + (rho1 - up) * d
    assert same(got, y + (rho1 - up) / 2 * (d + MIXTURE.eps(rho1, ahead)))
    outside = EDMHeun(0.3, churn_min=5.0)
    expected = Heun().step(Denoising(MIXTURE.eps), rho0, rho1, y0, None).y
    assert same(step(outside, rho0, rho1, None)[0], expected)


def test_noise_that_is_too_large_leaves_a_law_that_is_not_the_data_s():
    errors = [variance_error(EDMHeun(3.0, churn_noise=1.1), steps) for steps in (80, 160, 320)]
    assert min(errors) > 0.01 and EDMHeun(3.0, churn_noise=1.1).info.weak_order is None


@pytest.mark.parametrize("solver", [DDIM(0.5), SDEDPMpp2M(), CORRECTED, CHURNED], ids=repr)
def test_gradients_go_through_samplers_or_are_refused(solver):
    shift, rhos = torch.tensor(0.1, requires_grad=True), [5.0, 2.0, 1.0, 0.0]
    y0 = torch.tensor([[4.0, -3.0], [1.0, 6.0]])

    def made(shift, **options):
        term = ReverseSDE(
            lambda rho, y: MIXTURE.eps(rho, y) + shift * torch.tanh(y), brownian=Increments(seed=0), context=[shift]
        )
        return solve(term, y0, rhos, solver=solver, **options).y1.square().sum()

    (grad,) = torch.autograd.grad(made(shift), shift)
    ends = [float(made(shift.detach() + d)) for d in (1e-6, -1e-6)]
    assert float(grad) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)
    (again,) = torch.autograd.grad(made(shift, gradient=Checkpoint(2)), shift)
    assert float(again) == pytest.approx(float(grad), rel=SAME)
    for rule in (Reversible(), Backsolve()):
        with pytest.raises(InputError, match=type(rule).__name__):
            made(shift, gradient=rule)


def test_the_power_of_noise_estimates_is_measured():
    """Of 4000 data of the Gaussian at levels from little to much; with the key, each sample's noise is its own."""
    x0 = MEAN + math.sqrt(VARIANCE) * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    found = noise_power(gaussian, x0, [0.05, 0.5, 5.0, 50.0], seed=1)
    assert found.powers == pytest.approx([power(rho) for rho in found.rhos], rel=0.05)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(1))

    def measured(ids):
        with keyed(Key(0, ids=ids)):
            return noise_power(gaussian, x0[ids], [0.5, 5.0])

    assert measured(torch.arange(4000)).powers == pytest.approx(measured(order).powers, rel=1e-12)
    assert pickle.loads(pickle.dumps(found)) == found
    fine = noise_power(gaussian, x0, [10 ** (k / 8) for k in range(-16, 18)], seed=1)
    assert variance_error(AnalyticDPM(fine), 10) < 0.1 * variance_error(DDPM(), 10)


def test_a_table_of_powers_is_straight_in_the_logarithm_and_constant_outside():
    table = NoisePower([0.1, 1.0, 10.0], [0.2, 0.4, 1.0])
    assert [table(rho) for rho in (0.01, 0.1, 1.0, 10**0.5, 10.0, 99.0)] == pytest.approx([0.2, 0.2, 0.4, 0.7, 1, 1])


def test_clips_of_the_best_variance():
    """Estimates that are too good leave the least variance; data between −r and r bound it."""
    for rho0, rho1 in PLACES:
        least = AnalyticDPM(lambda rho: 2.0).variance(rho0, rho1)
        assert least == pytest.approx((rho1 / rho0) ** 2 * (rho0**2 - rho1**2), rel=1e-12)
        free, bound = (AnalyticDPM(lambda rho: 0.0, radius=radius).variance(rho0, rho1) for radius in (None, 0.5))
        assert free - least == pytest.approx((1 - (rho1 / rho0) ** 2) ** 2 * rho0**2, rel=1e-12)
        assert bound - least == pytest.approx((1 - (rho1 / rho0) ** 2) ** 2 * min(rho0, 0.5) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(1.5), "between 0"),
        (lambda: DDIM(math.nan), "between 0"),
        (lambda: DDPM("learnt"), "posterior, forward"),
        (lambda: EDMHeun(-1.0), "at least 0"),
        (lambda: EDMHeun(1.0, churn_min=2.0, churn_max=1.0), "the least first"),
        (lambda: EDMHeun(1.0, churn_noise=0.0), "above 0"),
        (lambda: PredictorCorrector(DDIM()), "a sampler of ReverseSDE"),
        (lambda: PredictorCorrector(Euler()), "a sampler of ReverseSDE"),
        (lambda: PredictorCorrector(SDEDPMpp2M()), "one step alone"),
        (lambda: PredictorCorrector(CORRECTED), "one number"),
        (lambda: PredictorCorrector(DDPM(), snr=0.0), "above 0"),
        (lambda: AnalyticDPM(0.5), "NoisePower"),
        (lambda: AnalyticDPM(power, eta=2.0), "between 0 and 1"),
        (lambda: AnalyticDPM(power, radius=0.0), "positive"),
        (lambda: NoisePower([1.0, 0.5], [0.1, 0.2]), "increase"),
        (lambda: NoisePower([1.0], [0.1, 0.2]), "increase"),
        (lambda: NoisePower([], []), "increase"),
    ],
)
def test_other_options_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_terms_and_ways_that_do_not_go_with_a_sampler_are_refused():
    noisy = ReverseSDE(MIXTURE.eps, SCHEDULE, brownian=Increments(seed=0))
    quiet, y0 = Denoising(MIXTURE.eps, SCHEDULE), torch.ones(2, 2)
    went = partial(solve, y0=y0, ts=[2.0, 1.0])
    for term, solver, options, message in (
        (quiet, DDPM(), {}, "integrates ReverseSDE"),
        (quiet, DDIM(0.5), {}, "integrates ReverseSDE"),
        (noisy, DDIM(), {}, "integrates Denoising"),
        (noisy, DPMpp2M(), {}, "integrates Denoising"),
        (noisy, RK4(), {}, "ordinary equations alone"),
        (noisy, DDPM(), {"controller": PID(1e-3, 1e-3)}, "no error estimate"),
        (noisy, DDPM(), {"ts": [1.0, 2.0]}, "less of it alone"),
        (noisy, DDIM(0.5), {"ts": [1.0, 2.0]}, "less of it alone"),
        (noisy, CHURNED, {"ts": [1.0, 2.0]}, "less of it alone"),
        (noisy, DDPM(), {"saveat": SaveAt(dense=True)}, "between the ends"),
        (noisy, DDIM(0.5), {"saveat": SaveAt(dense=True)}, "between the ends"),
        (noisy, CHURNED, {"saveat": SaveAt(dense=True)}, "between the ends"),
    ):
        with pytest.raises(InputError, match=message):
            went(term=term, solver=solver, **options)
    with pytest.raises(InputError, match="number is not known"):
        CHURNED.step(noisy, 2.0, 1.0, y0, None)
