"""Gradients through noise: replayed paths are the same; what cannot go that way is refused in words."""

import pytest
import sdes
import torch

from deqlight import SaveAt, solve
from deqlight.brownian import Increments, Interval
from deqlight.controllers import PID
from deqlight.errors import InputError
from deqlight.gradients import Checkpoint, Direct, Implicit, Reversible
from deqlight.solvers import SRK, Euler, EulerHeun, Heun, LogODE, Milstein, Platen, ReversibleHeun, ReversiblePair
from deqlight.testing.memory import measured_memory

EXACT = 1e-10  # relative, in float64
GRID = [k / 12 for k in range(13)]

CASES = [
    *((Checkpoint(budget), solver, noise) for budget in (None, 3) for solver, noise in (
        (Euler(), "general"), (Milstein(), "diagonal"), (SRK(), "scalar"), (Platen(), "additive"), (Heun(), "general"),
        (EulerHeun(), "diagonal"), (LogODE(), "general"),
    )),
    *((Reversible(), ReversibleHeun(), noise) for noise in ("additive", "diagonal", "scalar", "general")),
]  # fmt: skip


def gradients(rule, solver, noise, **options):
    torch.manual_seed(0)
    term = sdes.equation(noise, solver.info.calculus or "stratonovich", options.pop("brownian", Increments(seed=4)))
    y0 = torch.randn(5, 3, requires_grad=True)
    solution = solve(term, y0, options.pop("ts", GRID), solver=solver, gradient=rule, **options)
    return solution, torch.autograd.grad(solution.ys.square().sum(), [y0, *term.parameters()], materialize_grads=True)


@pytest.mark.parametrize(("rule", "solver", "noise"), CASES, ids=str)
def test_equal_to_that_through_the_steps(rule, solver, noise, double):
    (direct, expected), (solution, found) = (gradients(r, solver, noise) for r in (Direct(), rule))
    assert torch.equal(direct.ys, solution.ys)
    assert solution.stats.nfe_backward > 0
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() <= EXACT * a.abs().max()


@pytest.mark.parametrize("norm", ["joint", "sample"])
def test_checkpoints_of_measured_steps_see_the_path_again(norm, double):
    options = {"controller": PID(1e-2, 1e-2, norm=norm), "ts": [0.0, 0.5, 1.0], "brownian": Interval(seed=4)}
    (direct, expected), (solution, found) = (
        gradients(rule, Heun(), "diagonal", **options) for rule in (Direct(), Checkpoint(2))
    )
    assert torch.equal(direct.ys, solution.ys)
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() <= EXACT * a.abs().max()


def test_the_gradient_of_geometric_brownian_motion(double):
    """∂y/∂μ = T y and ∂y/∂σ = (W − σT) y in Itô's sense, at the solver's strong order."""
    coarse, fine = (gbm_gap(steps) for steps in (64, 256))
    assert fine < coarse / 2.5 and fine < 5e-3


def gbm_gap(steps):
    """How far the mean gradient over 200 paths, of so many steps, is from that of the exact paths."""
    mu, sigma = torch.tensor(-0.5, requires_grad=True), torch.tensor(0.6, requires_grad=True)
    grid, brownian = sdes.even(steps), Increments(seed=1, base=sdes.even(256))
    term = sdes.SDETerm(
        lambda t, y: mu * y, lambda t, y: sigma * y, noise="diagonal", calculus="ito", brownian=brownian
    )
    y0 = torch.ones(200, 1)
    y1 = solve(term, y0, grid, solver=Milstein(), saveat=SaveAt(final=True)).y1
    w = term.drawn(y0, sdes.Grid(lambda: grid, True), 0).path.increment(0.0, 1.0).w
    exact = torch.exp(mu - 0.5 * sigma**2 + sigma * w).detach()
    found = torch.autograd.grad(y1.sum(), [mu, sigma])
    expected = (exact.sum(), ((w - sigma.detach()) * exact).sum())
    return max(float((a - b).abs()) / 200 for a, b in zip(found, expected, strict=True))


def test_noise_does_not_come_to_rest(double):
    with pytest.raises(InputError, match="Implicit"):
        gradients(Implicit(), Heun(), "diagonal")


def test_pairs_of_steps_forth_and_back_are_no_method_for_noise(double):
    with pytest.raises(InputError, match="ReversiblePair got a stochastic term"):
        gradients(Reversible(), ReversiblePair(Heun()), "diagonal")


def test_the_memory_of_undone_steps_does_not_grow(double):
    def peak(rule, steps):
        term, y0 = sdes.equation("diagonal", "stratonovich", Increments(seed=4)), torch.randn(64, 3)
        options = {"solver": ReversibleHeun(), "gradient": rule, "saveat": SaveAt(final=True)}
        found = measured_memory(lambda: solve(term, y0, sdes.even(steps), **options).y1.sum(), list(term.parameters()))
        return found.peak - y0.nbytes * steps  # the path, which is drawn at once

    assert peak(Reversible(), 64) < 1.1 * peak(Reversible(), 8) and peak(Direct(), 64) > 5 * peak(Direct(), 8)
