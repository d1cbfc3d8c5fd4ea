"""Every solver samples that can, without extra code, and ends where the flow or the law of the data does."""

import inspect
import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deqlight import solve, solvers
from deqlight.brownian import Key
from deqlight.controllers import PID
from deqlight.errors import InputError
from deqlight.gaussians import Gaussian, GaussianMixture
from deqlight.nets import ClassifierFree, Denoiser, DynamicThreshold, Sampler, StaticThreshold
from deqlight.schedules import VP, UniformLogSNR
from deqlight.solvers import (
    DDIM,
    DDPM,
    RK4,
    SRK,
    AnalyticDPM,
    Dopri5,
    DPMpp2M,
    Euler,
    Heun,
    ImplicitSolver,
    Midpoint,
    PredictorCorrector,
    ReversibleHeun,
    Solver,
    SolverInfo,
    Step,
    Stormer,
    Verlet,
    noise_power,
)
from deqlight.terms import Denoising, Partitioned, Semilinear, Split

pytestmark = pytest.mark.usefixtures("double")

PLUGINS = Path(__file__).parents[2] / "plugins"
sys.path += [str(folder) for folder in sorted(PLUGINS.iterdir()) if folder.is_dir()]
import deqlight_lyapunov  # noqa: E402, F401  it brings a cost and no solver
import deqlight_sspms  # noqa: E402

SCHEDULE = VP(t_min=0.02)
TRUTH = GaussianMixture([0.3, 0.7], [[1.0, 0.5], [-0.8, 0.2]], [0.1, 0.3])
STEPS = 100
NEAR = 0.5  # how far the slope from 100 to 200 steps may be below the order, for short grids; AB4 still begins
ROUNDED = 1e-9  # errors so small are rounding, or nearly
BOUNDS = {1: 0.06, 2: 5e-4, 3: 2e-5, 4: 1e-6}  # of the error at 200 steps; the worst of each order has about half
SIGMAS, DRAWS = 5.0, 4000
CORRECTED = 0.03  # relatively, of a variance: noise of 0.01, and the predictor's own error
SAME = 1e-12  # relatively, of samples in batches of other sizes
REFUSED = (Partitioned, Semilinear, Split)


class Knowing(nn.Module):
    """A network that tells the noise in samples of a distribution exactly, and counts how often it is asked."""

    def __init__(self, *targets):
        super().__init__()
        self.blank = nn.Parameter(torch.zeros(1))  # what is drawn is made in its dtype
        self.targets, self.calls = targets, 0

    def forward(self, t, x, classes=None):
        self.calls += 1
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.dim() else t
        rho, y = SCHEDULE.rho(t), x / SCHEDULE.alpha(t)
        estimates = torch.stack([target.eps(float(rho) if rho.dim() == 0 else rho, y) for target in self.targets])
        if classes is None or len(self.targets) == 1:
            return estimates[-1]
        return estimates[classes, torch.arange(len(x))]


class Shu(Solver):
    """Adams and Bashforth's method of third order, as a third party may write it; it begins with Heun's."""

    info = SolverInfo(order=3, nfe_step=1, nfe_start=2, steps=3, uniform_steps=True)

    def step(self, term, t0, t1, y0, carry):
        past = carry or ()
        slopes = (term.vf(t0, y0), *past)[:3]
        if len(past) < 2:
            return Step(RK4().step(term, t0, t1, y0, None).y, slopes)
        weights = (23 / 12, -16 / 12, 5 / 12)
        return Step(term.advance(y0, weights, slopes, term.control(t0, t1)), slopes)


class Kutta(Solver):
    """Kutta's method of third order, as a third party may write it."""

    info = SolverInfo(order=3, nfe_step=3)

    def step(self, term, t0, t1, y0, carry):
        control, middle = term.control(t0, t1), (t0 + t1) / 2
        first = term.vf(t0, y0)
        second = term.vf(middle, term.advance(y0, [0.5], [first], control))
        third = term.vf(t1, term.advance(y0, [-1.0, 2.0], [first, second], control))
        return Step(term.advance(y0, [1 / 6, 2 / 3, 1 / 6], [first, second, third], control))


def registered():
    """An example of each class at least, our own, of the plugins, and of third parties."""
    ours = [value for name, value in sorted(vars(solvers).items()) if name in solvers.__all__]
    found = [cls for cls in ours if isinstance(cls, type) and issubclass(cls, Solver) and not inspect.isabstract(cls)]
    classes = [*found, *deqlight_sspms.deqlight_solvers(), Shu, Kutta]
    return [example for cls in classes for example in cls.examples()]


def cannot(solver):
    """Whether it integrates other kinds of equations."""
    return set(solver.info.terms) <= set(REFUSED) or solver.info.derivative != 1 or repr(solver) == "LogODE"


def draws(solver):
    return not cannot(solver) and not issubclass(Denoising, solver.info.terms)


EVERY = registered()
FLOWS = [solver for solver in EVERY if not cannot(solver) and not draws(solver)]
NOISY = [solver for solver in EVERY if draws(solver)]
CORRECTING = [solver for solver in NOISY if isinstance(solver, PredictorCorrector)]


@cache
def noise():
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@cache
def truth():
    return Sampler(RK4(), 3000)(Denoiser(Knowing(TRUTH), SCHEDULE), noise()).x


def knowing(*targets):
    return Denoiser(Knowing(*(targets or (TRUTH,))), SCHEDULE)


def sampler(solver, steps, **options):
    """In ρ, even in its logarithm, but for solvers whose steps must have one length."""
    where = {"variable": "t"} if solver.info.uniform_steps else {"grid": UniformLogSNR()}
    return Sampler(solver, steps, **where, **options)


def error(solver, steps):
    return float((sampler(solver, steps)(knowing(), noise()).x - truth()).square().mean().sqrt())


def test_all_are_here():
    assert len(EVERY) > 100 and len(FLOWS) > 70 and len(NOISY) > 15
    assert {"SSPMS32", "Shu", "Kutta", "AB3", "BDF2", "UniPC(3, 'bh2', lower_final=False)"} <= set(map(repr, FLOWS))


@pytest.mark.parametrize("solver", FLOWS, ids=repr)
def test_a_solver_of_ordinary_equations_ends_where_the_flow_does(solver):
    """VP from t = 1 to 0.02; a method with a memory that begins with less is held to its order all the same."""
    first, last = error(solver, STEPS), error(solver, 2 * STEPS)
    assert last < BOUNDS[min(solver.info.order, 4)]
    assert last < ROUNDED or math.log2(first / last) > min(solver.info.order, 3) - NEAR


@pytest.mark.parametrize("solver", FLOWS, ids=repr)
def test_a_sample_of_a_flow_is_the_same_in_any_batch_and_costs_what_is_told(solver):
    denoiser = knowing()
    whole = sampler(solver, 10)(denoiser, noise())
    calls = denoiser.net.calls
    alone = sampler(solver, 10)(denoiser, noise()[2:3])
    assert torch.allclose(whole.x[2:3], alone.x, rtol=SAME, atol=SAME)
    assert torch.equal(whole.nfe[2:3], alone.nfe)
    shared = isinstance(solver, ImplicitSolver) or repr(solver) == "BDF2"
    assert int(whole.nfe.max()) <= calls if shared else int(whole.nfe.max()) == calls  # those that iterate go on alone


def law(solver):
    """Samples at the clean end, without α, and the mean and covariance that they should have."""
    if isinstance(solver, AnalyticDPM):
        data = TRUTH.sample(4000, np.random.default_rng(0))
        levels = sorted(UniformLogSNR().times(SCHEDULE, 200))
        solver = solver.measured(noise_power(TRUTH.eps, data, levels, seed=0))
    low = SCHEDULE.rho_ends[1]
    samples = Sampler(solver, 200).drawn(knowing(), (2,), Key(0), DRAWS)
    return samples.x / SCHEDULE.scale(low), TRUTH.mean, TRUTH.covariance + low**2 * torch.eye(2)


@pytest.mark.parametrize("solver", [solver for solver in NOISY if solver not in CORRECTING], ids=repr)
def test_a_solver_that_draws_noise_gives_the_law_of_the_data(solver):
    y, mean, covariance = law(solver)
    off = y - mean
    products = torch.einsum("ni,nj->nij", off, off)
    assert bool((off.mean(0).abs() < SIGMAS * off.std(0) / DRAWS**0.5).all())
    assert bool(((products.mean(0) - covariance).abs() < SIGMAS * products.std(0) / DRAWS**0.5).all())


@pytest.mark.parametrize("solver", CORRECTING, ids=repr)
def test_correctors_give_it_where_there_are_many_dimensions(solver):
    """In the plane |ε| comes near to nothing, and steps are too long (see `PredictorCorrector`); in 64 numbers not.

    Langevin's steps leave snr² too much, their dependence on |ε|, which weighs the law by |ε|², 2/d, and on |z| 2/d.
    """
    mean, variance = torch.linspace(-1, 1, 64), 0.25
    denoiser = knowing(Gaussian(mean, variance * torch.eye(64)))
    samples = Sampler(solver, 200).drawn(denoiser, (64,), Key(0), 500)
    low = SCHEDULE.rho_ends[1]
    off = samples.x / SCHEDULE.scale(low) - mean
    assert bool((off.mean(0).abs() < SIGMAS * off.std(0) / 500**0.5).all())
    share = float(off.square().mean()) / (variance + low**2) - 1
    assert share == pytest.approx(solver.snr**2 + 4 / 64, abs=CORRECTED)


@pytest.mark.parametrize("solver", [*NOISY, Euler(), Heun(), Midpoint(), ReversibleHeun()], ids=repr)
def test_a_sample_with_noise_is_the_same_in_any_batch(solver):
    if isinstance(solver, AnalyticDPM):
        solver = solver.measured(lambda rho: rho**2 / (1 + rho**2))
    eta = 0.0 if draws(solver) else 0.7
    made = Sampler(solver, 10, eta=eta)
    whole = made.drawn(knowing(), (2,), Key(3, ids=torch.arange(40, 49)), 9)
    alone = made.drawn(knowing(), (2,), Key(3, ids=torch.tensor([44])), 1)
    other = made.drawn(knowing(), (2,), Key(4, ids=torch.tensor([44])), 1)
    assert torch.allclose(whole.x[4:5], alone.x, rtol=SAME, atol=SAME) and not torch.allclose(alone.x, other.x)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("solver", [Euler(), Heun(), SRK()], ids=repr)
def test_any_eta_has_one_law(solver, eta):
    samples = Sampler(solver, 200, eta=eta).drawn(knowing(), (2,), Key(1), DRAWS)
    y = samples.x / SCHEDULE.scale(SCHEDULE.rho_ends[1])
    assert bool(((y.mean(0) - TRUTH.mean).abs() < SIGMAS * y.std(0) / DRAWS**0.5).all())


@pytest.mark.parametrize("solver", [solver for solver in EVERY if cannot(solver)], ids=repr)
@pytest.mark.parametrize("variable", ["rho", "t"])
def test_what_cannot_sample_is_refused_and_told_why(solver, variable):
    with pytest.raises(InputError, match=r"integrates|acceleration"):
        Sampler(solver, variable=variable)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": solvers.AB3()}, r"steps of one length.*variable='t'"),
        ({"solver": Stormer(), "variable": "t"}, "acceleration"),
        ({"solver": Verlet()}, "integrates Partitioned.*made for it"),
        ({"solver": DDPM(), "eta": 0.5}, "leave eta out"),
        ({"solver": DDIM(), "eta": 0.5}, "leave eta out"),
        ({"solver": DDPM(), "variable": "t"}, "integrates ReverseSDE.*ordinary equations"),
        ({"solver": "DDIM"}, "needs a Solver"),
        ({"solver": DPMpp2M(), "controller": PID(1e-3, 1e-3)}, "no error estimate"),
    ],
    ids=["uniform", "second order", "partitioned", "eta", "eta of DDIM", "time", "word", "measured"],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Sampler(**options)


def test_a_power_that_was_not_measured_is_asked_for():
    with pytest.raises(InputError, match="noise_power"):
        Sampler(AnalyticDPM(), 4)(knowing(), noise())


def test_measured_steps_have_clocks_and_classes_of_each_sample():
    targets = Gaussian([2.0, 0.0], [[0.01, 0.0], [0.0, 0.01]]), Gaussian([-1.0, 0.5], [[0.5, 0.2], [0.2, 0.9]])
    classes = torch.tensor([0, 1, 1, 0, 1, 0])
    options = {"controller": PID(1e-8, 1e-8), "guidance": ClassifierFree(1.0)}
    found = Sampler(Dopri5(), **options)(knowing(*targets), noise(), classes)
    high, low = SCHEDULE.rho_ends
    y0 = noise() * SCHEDULE.prior_std / SCHEDULE.scale(high)
    for n, label in enumerate(classes.tolist()):
        exact = targets[label].flow(high, low, y0[n : n + 1]) * SCHEDULE.scale(low)
        assert torch.allclose(found.x[n : n + 1], exact, atol=1e-5)
    assert len(set(found.nfe.tolist())) > 1
    alone = Sampler(Dopri5(), **options)(knowing(*targets), noise()[2:3], classes[2:3])
    assert torch.allclose(alone.x, found.x[2:3], rtol=SAME, atol=SAME) and torch.equal(alone.nfe, found.nfe[2:3])


def test_guidance_and_thresholds_are_those_of_the_field():
    targets = Gaussian([1.0, 0.0], [[0.1, 0.0], [0.0, 0.1]]), Gaussian([-1.0, 0.5], [[0.5, 0.2], [0.2, 0.9]])
    denoiser, classes, grid = knowing(*targets), torch.tensor([0, 0, 1, 1, 0, 1]), UniformLogSNR(to_zero=True)
    threshold = StaticThreshold(-0.5, 0.5)
    found = Sampler(DPMpp2M(), 12, grid, guidance=ClassifierFree(2.0), threshold=threshold)(denoiser, noise(), classes)
    field = threshold.around(ClassifierFree(2.0).guide(denoiser.eps, classes))
    levels = grid.times(SCHEDULE, 12)
    y0 = noise() * SCHEDULE.prior_std / SCHEDULE.scale(levels[0])
    by_hand = solve(Denoising(field, SCHEDULE), y0, levels, solver=DPMpp2M()).y1
    assert torch.allclose(found.x, by_hand * SCHEDULE.scale(0.0), rtol=SAME) and float(found.x.abs().max()) <= 0.5
    loose = Sampler(DDPM(), 12, grid, threshold=DynamicThreshold(0.9, 5.0)).drawn(denoiser, (2,), Key(0), 50)
    assert float(loose.x.abs().max()) <= 5.0
    free = Sampler(DPMpp2M(), 12, grid, guidance=ClassifierFree(2.0))(denoiser, noise(), classes)
    assert float(free.x.abs().max()) > 0.5


def test_the_levels_are_those_of_the_grid():
    fixed, measured = Sampler(DDIM(), 5), Sampler(Dopri5(), controller=PID(1e-3, 1e-3))
    assert fixed.levels(SCHEDULE) == DDIM.grid.times(SCHEDULE, 5) and len(fixed.levels(SCHEDULE)) == 6
    assert measured.levels(SCHEDULE) == list(SCHEDULE.rho_ends)
    short = replace(SCHEDULE, t_min=0.3)
    assert torch.allclose(
        Sampler(DDIM(), 5, schedule=short)(knowing(), noise()).x,
        Sampler(DDIM(), 5)(Denoiser(Knowing(TRUTH), short), noise()).x,
    )
