"""The adjoint of stochastic equations: against the gradient of the steps, against formulas, and what is refused."""

import math

import pytest
import sdes
import torch
from rules import gap
from torch import nn

from deqlight import SaveAt, SDETerm, solve
from deqlight.brownian import Increments, Interval
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.gradients import Backsolve, Direct, _driven
from deqlight.regularizers import GaussianNoise
from deqlight.solvers import RK4, SRK, Dopri5, Euler, EulerHeun, Heun, LogODE, Midpoint, Milstein, ReversibleHeun
from deqlight.terms import Converted, ODETerm
from deqlight.testing.memory import measured_memory

FINE = 256
NOISES = ("additive", "diagonal", "scalar", "general")
BACK, EULER = Backsolve(Heun()), Backsolve(Euler())
TS = [0.0, 0.25, 0.5, 1.0]

SCATTER = 0.3
"""How far a slope over three grids and 64 paths may fall short of the order; orders are 1/2 apart."""


def gradients(rule, solver, noise, steps, y0=None, term=None, ts=TS, **options):
    """The solution, and the gradients of a loss that every output has a share in."""
    torch.manual_seed(0)
    options = {"controller": Constant(dt=1.0 / steps), **options}
    term = term or sdes.equation(noise, solver.info.calculus, Increments(seed=4, base=sdes.even(FINE)))
    y0 = torch.randn(64, 3, requires_grad=True) if y0 is None else y0
    solution = solve(term, y0, ts, solver=solver, gradient=rule, **options)
    loss = solution.ys.square().sum()
    return solution, torch.autograd.grad(loss, [y0, *term.parameters()], materialize_grads=True)


CASES = [
    *((s, Backsolve(), noise, 0.5 if noise == "general" else 1.0) for s in (Heun(), Midpoint()) for noise in NOISES),
    *((Euler(), BACK, noise, 1.0 if noise == "additive" else 0.5) for noise in NOISES),
    *((Milstein(), BACK, noise, 1.0) for noise in ("diagonal", "scalar")),
    *((SRK(), BACK, noise, 1.0) for noise in ("additive", "diagonal", "scalar")),
    *((EulerHeun(), Backsolve(Midpoint()), noise, 0.5 if noise == "general" else 1.0) for noise in NOISES),
    (Euler(), EULER, "additive", 1.0),
    (ReversibleHeun(), BACK, "diagonal", 1.0),
]


@pytest.mark.parametrize(("solver", "rule", "noise", "order"), CASES, ids=str)
def test_it_tends_to_the_gradient_of_the_steps(solver, rule, noise, order, double):
    """Of the state, and of all parameters, with several outputs, at the lesser strong order of both ways."""
    errors = []
    for steps in (16, 32, 64):
        (direct, expected), (solution, found) = (gradients(r, solver, noise, steps) for r in (Direct(), rule))
        assert torch.equal(direct.ys, solution.ys)
        assert solution.stats.nfe_backward == (2 if rule == EULER else 4) * steps
        errors.append(gap(expected, found))
    assert sdes.slope(errors, (16, 32, 64)) > order - SCATTER and errors[-1] < 0.06


PATHS = 100


def distances(make, solver, steps):
    """How far gradients are from the formulas, each path with parameters of its own: relative, the root mean square."""
    term, parameters, exact = make()
    y0 = torch.linspace(0.8, 1.6, PATHS)[:, None].requires_grad_()
    options = {"solver": solver, "saveat": SaveAt(final=True), "controller": Constant(steps=steps)}
    y1 = solve(term, y0, [0.0, 1.0], gradient=BACK, **options).y1
    found = torch.autograd.grad(y1.sum(), [y0, *parameters])
    path = term.drawn(y0, sdes.Grid(lambda: sdes.even(FINE), True), 0).path
    with torch.no_grad():
        expected = exact(y0, path.w[..., 0])
    return [float((f - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True)]


def each(value):
    """A parameter for each path."""
    return torch.full((PATHS, 1), value, requires_grad=True)


def geometric():
    """dy = μ y dt + σ y dW in Itô's sense: ∂y/∂y₀ = y/y₀, ∂y/∂μ = T y, ∂y/∂σ = (W − σT) y."""
    mu, sigma = each(-0.5), each(0.6)
    f, g = ODETerm(lambda t, y: mu * y, [mu]), ODETerm(lambda t, y: sigma * y, [sigma])
    term = SDETerm(f, g, noise="diagonal", calculus="ito", brownian=Increments(seed=1, base=sdes.even(FINE)))

    def exact(y0, increments):
        w = increments.sum(1, keepdim=True)
        growth = torch.exp(mu - 0.5 * sigma**2 + sigma * w)
        return growth, growth * y0, (w - sigma) * growth * y0

    return term, (mu, sigma), exact


def uhlenbeck():
    """dy = −θ y dt + σ dW: with k(s) = e^(−θs), ∂y/∂y₀ = k(T), ∂y/∂σ = ∫ k(T − s) dW, and
    ∂y/∂θ = −T k(T) y₀ − σ ∫ (T − s) k(T − s) dW.

    What is within an interval of the base grid is not known, so that the integrals are sums over its middles.
    """
    theta, sigma = each(0.9), each(0.6)
    f, g = ODETerm(lambda t, y: -theta * y, [theta]), ODETerm(lambda t, y: sigma * torch.ones_like(y), [sigma])
    term = SDETerm(f, g, noise="additive", calculus="ito", brownian=Increments(seed=1, base=sdes.even(FINE)))

    def exact(y0, increments):
        left = 1.0 - (torch.arange(FINE) + 0.5) / FINE
        kernel = torch.exp(-theta * left) * increments
        decay = torch.exp(-theta)
        late = (left * kernel).sum(1, keepdim=True)
        return decay, -decay * y0 - sigma * late, kernel.sum(1, keepdim=True)

    return term, (theta, sigma), exact


@pytest.mark.parametrize(
    ("make", "solver", "order"), [(geometric, Milstein(), 1.0), (geometric, Euler(), 0.5), (uhlenbeck, Euler(), 1.0)]
)
def test_it_tends_to_the_formulas(make, solver, order, double):
    """Of the start, and of each parameter of drift and diffusion."""
    grids = (16, 32, 64, 128)
    for errors in zip(*(distances(make, solver, steps) for steps in grids), strict=True):
        assert sdes.slope(errors, grids) > order - SCATTER and errors[-1] < 0.2 * FINE ** (0.5 - order)


@pytest.mark.filterwarnings("ignore:Backsolve came back")
@pytest.mark.parametrize("planted", [0.0, -1.0, 2.0])
def test_a_wrong_correction_would_be_seen(planted, double, monkeypatch):
    """None, one of the wrong sign and one twice as large: what is left does not shrink with the steps."""

    class Wrong(Converted):
        def vf(self, t, y):
            plain, corrected = self.inner.vf(t, y), super().vf(t, y)
            return corrected._replace(f=plain.f + planted * (corrected.f - plain.f))

    monkeypatch.setattr(_driven, "Converted", Wrong)
    coarse, fine = (max(distances(geometric, Milstein(), steps)) for steps in (32, 128))
    assert fine > 0.15 and fine > coarse / 1.5


class Tied(nn.Module):
    """A matrix that is used twice, a scale that is frozen, and a layer that is not used."""

    def __init__(self, other=None):
        super().__init__()
        self.linear = nn.Linear(3, 3) if other is None else other.linear
        self.frozen, self.spare = nn.Parameter(torch.rand(3), requires_grad=False), nn.Linear(2, 2)

    def forward(self, t, y):
        return torch.tanh(self.linear(torch.tanh(self.linear(y)))) * self.frozen * (1 + 0.2 * t)


def test_parameters_that_are_shared_frozen_or_not_used(double):
    """Drift and diffusion share a matrix; all numbers move with one Brownian motion."""
    drift = Tied()
    term = SDETerm(drift, Tied(drift), noise="scalar", calculus="stratonovich", brownian=Increments(seed=4))
    found = []
    for rule in (Direct(), Backsolve()):
        y0 = torch.linspace(-1, 1, 12).reshape(4, 3).requires_grad_()
        term.zero_grad()
        solve(term, y0, sdes.even(64), solver=Heun(), gradient=rule).ys[::16].square().sum().backward()
        assert drift.frozen.grad is None
        assert drift.spare.weight.grad is None or not drift.spare.weight.grad.any()
        found.append([y0.grad, drift.linear.weight.grad.clone(), drift.linear.bias.grad.clone()])
    assert gap(*found) < 0.01


@pytest.mark.parametrize("norm", ["joint", "sample"])
@pytest.mark.parametrize("noise", ["additive", "diagonal", "scalar"])
def test_measured_steps_back(noise, norm, double):
    errors = []
    for tolerance in (1e-1, 1e-3):
        options = {"controller": PID(tolerance, tolerance, norm=norm), "ts": [0.0, 0.5, 1.0]}
        y0 = torch.randn(4, 3, requires_grad=True)
        term = sdes.equation(noise, "stratonovich", Interval(seed=4))
        (_, expected), (_, found) = (
            gradients(rule, Heun(), noise, 1, y0, term, **options) for rule in (Direct(), Backsolve())
        )
        errors.append(gap(expected, found))
    assert errors[1] < min(errors[0] / 2, 0.06)


def test_times_of_each_sample(double):
    ts = [[0.0, 1.0], [0.0, 0.5, 2.0], [1.0, 0.0], [0.0, 0.3, 0.4, 1.0]]
    y0, term = torch.randn(4, 3, requires_grad=True), sdes.equation("general", "stratonovich", Interval(seed=4))
    options = {"controller": Constant(steps=32), "ts": ts}
    (_, expected), (_, found) = (
        gradients(rule, Heun(), "general", 1, y0, term, **options) for rule in (Direct(), Backsolve())
    )
    assert gap(expected, found) < 0.02


def test_finer_steps_back(double):
    """Steps of the way forth are coarse, those of the way back are not: then the first have all of the difference."""
    y0, ts = torch.randn(16, 3, requires_grad=True), [0.0, 1.0]
    term = sdes.equation("diagonal", "stratonovich", Increments(seed=4, base=sdes.even(FINE)))
    _, exact = gradients(Direct(), Heun(), "diagonal", FINE, y0, term, ts)
    coarse, fine = (
        gap(exact, gradients(rule, Heun(), "diagonal", 64, y0, term, ts)[1])
        for rule in (Backsolve(Midpoint(), Constant(steps=8)), Backsolve(Midpoint(), Constant(steps=FINE)))
    )
    assert fine < coarse / 4


def test_noise_that_regularises_goes_back(double):
    """In its diffusion limit, one of Itô's equations; and switched off, in evaluation, an ordinary one."""
    field, y0 = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(8, 3, requires_grad=True)
    drift = ODETerm(lambda t, y: field(y), list(field.parameters()))
    noisy = GaussianNoise(0.4, noise="gaussian", scaling="sde").wrap(drift)
    noisy.parameters = field.parameters
    for training, within in ((True, 0.05), (False, 0.01)):
        noisy.train(training)
        options = {"controller": Constant(steps=64), "ts": [0.0, 1.0]}
        (_, expected), (_, found) = (
            gradients(rule, solver, "", 1, y0, noisy, **options)
            for rule, solver in ((Direct(), Euler()), (BACK, Euler()))
        )
        assert gap(expected, found) < within


def test_its_memory_does_not_grow(double):
    term, y0 = sdes.equation("diagonal", "ito", Increments(seed=4)), torch.randn(64, 3)

    def kept(rule, steps):
        ts = [0.0, 1.0]
        options = {
            "solver": Euler(),
            "saveat": SaveAt(final=True),
            "controller": Constant(steps=steps),
            "gradient": rule,
        }
        found = measured_memory(lambda: solve(term, y0, ts, **options).y1.sum(), list(term.parameters()))
        return found.peak - 64 * 3 * 8 * steps  # the path itself is drawn at once

    assert kept(BACK, 64) < 1.1 * kept(BACK, 8) and kept(Direct(), 64) > 5 * kept(Direct(), 8)


class Mixing(nn.Module):
    """A diffusion each number of which depends on all."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, t, y):
        return torch.cos(self.linear(y))


def refused(solver, rule, noise, **options):
    term = sdes.equation(noise, solver.info.calculus or "ito", options.pop("brownian", Increments(seed=4)))
    solve(term, torch.randn(4, 3, requires_grad=True), [0.0, 0.5, 1.0], solver=solver, gradient=rule, **options)


@pytest.mark.parametrize(
    ("solver", "rule", "noise", "why"),
    [
        (Euler(), Backsolve(), "diagonal", r"Euler solves those in Itô's: use Backsolve\(solver=Heun\(\)\)"),
        (Heun(), Backsolve(Euler()), "general", r"Euler solves those in Itô's: use Backsolve\(solver=Heun\(\)\)"),
        (Heun(), Backsolve(RK4()), "diagonal", r"RK4 for the way back of diagonal noise, which it does not"),
        (Heun(), Backsolve(Dopri5()), "additive", r"Dopri5 for the way back of additive noise, which it does not"),
        (Milstein(), Backsolve(), "diagonal", "Milstein.*integrates Stochastic alone"),
        (EulerHeun(), Backsolve(), "diagonal", "EulerHeun.*integrates Stochastic alone"),
        (LogODE(), Backsolve(), "general", "LogODE.*integrates Stochastic alone"),
        (ReversibleHeun(), Backsolve(), "diagonal", "ReversibleHeun.*remembers earlier steps"),
    ],
    ids=str,
)
def test_solvers_that_are_not_fit_for_the_way_back_are_refused(solver, rule, noise, why, double):
    with pytest.raises(InputError, match=why):
        refused(solver, rule, noise)


def test_measured_steps_that_noise_chooses_are_refused(double):
    rule = Backsolve(Heun(), PID(1e-2, 1e-2, norm="joint"))
    with pytest.raises(InputError, match=r"strong order 0.5.*Gaines & Lyons"):
        refused(Heun(), rule, "general", controller=Constant(steps=4), brownian=Interval(seed=4))


def test_noise_that_is_said_to_be_diagonal_and_is_not(double):
    """Itô's correction relies on it; Euler's method forth, and Stratonovich's way back, do not."""
    y0 = torch.randn(4, 3, requires_grad=True)
    for calculus, solver in (("ito", Euler()), ("stratonovich", Heun())):
        options = {"noise": "diagonal", "calculus": calculus, "brownian": Increments(seed=4)}
        term = SDETerm(sdes.Drift(3), Mixing(), **options)
        if calculus == "ito":
            with pytest.raises(InputError, match="its diffusion of one number depends on others"):
                solve(term, y0, sdes.even(4), solver=solver, gradient=BACK)
            continue
        (_, expected), (_, found) = (gradients(rule, solver, "", 64, y0, term, [0.0, 1.0]) for rule in (Direct(), BACK))
        assert math.isfinite(gap(expected, found)) and gap(expected, found) < 0.05
