"""The methods that torchsde has, too, take the same steps on the same Brownian path, and have the same gradients."""

import pytest
import torch
from sdes import by_torchsde, equation, even
from torchsde._core.methods import srk
from torchsde._core.methods.tableaus import srid1

from deqlight import solve
from deqlight.brownian import Increments
from deqlight.solvers import (
    SRK,
    Euler,
    EulerHeun,
    Heun,
    LogODE,
    Midpoint,
    Milstein,
    ReversibleHeun,
    StratonovichMilstein,
)

SAME = 1e-10  # what rounding may leave of one formula in two orders of its sums
TIMES = even(8)
ALL = ("additive", "diagonal", "scalar", "general")
OWN = ALL[:2]  # torchsde's Milstein for scalar noise multiplies by the Jacobian's transpose, see below

CASES = [
    *((Euler(), "euler", noise, {}) for noise in ALL),
    *((Milstein(), "milstein", noise, {}) for noise in OWN),
    *((Milstein(derivative_free=True), "milstein", noise, {"grad_free": True}) for noise in ALL[:3]),
    *((StratonovichMilstein(), "milstein", noise, {}) for noise in OWN),
    *((SRK(drift_order=3), "srk", noise, {}) for noise in ALL[:3]),
    (SRK(), "srk", "additive", {}),
    *((Heun(), "heun", noise, {}) for noise in ALL),
    *((Midpoint(), "midpoint", noise, {}) for noise in ALL),
    *((EulerHeun(), "euler_heun", noise, {}) for noise in ALL),
    *((ReversibleHeun(), "reversible_heun", noise, {}) for noise in ALL),
    (LogODE(), "log_ode", "general", {}),
]


def compare(solver, method, term, **options):
    y0 = torch.randn(4, 3, requires_grad=True)
    wanted = [y0, *term.parameters()]
    ours = solve(term, y0, TIMES, solver=solver).y1
    theirs = by_torchsde(term, y0, TIMES, method, solver.info.area, **options)
    weights = torch.randn_like(ours)
    unused = {"allow_unused": True, "materialize_grads": True}
    slopes = (torch.autograd.grad(y, wanted, weights, **unused) for y in (ours, theirs))
    assert torch.allclose(ours, theirs, rtol=0, atol=SAME)
    for a, b in zip(*slopes, strict=True):
        assert torch.allclose(a, b, rtol=SAME, atol=SAME)


@pytest.mark.parametrize(("solver", "method", "noise", "options"), CASES, ids=lambda x: str(x) if x else "")
def test_the_same_solution_and_gradients(solver, method, noise, options, double):
    term = equation(noise, solver.info.calculus, Increments(seed=5))
    compare(solver, method, term, **options)


@pytest.mark.parametrize("noise", ["diagonal", "scalar"])
def test_the_method_whose_drift_is_of_order_two(noise, double, monkeypatch):
    monkeypatch.setattr(srk, "srid2", srid1)  # torchsde has its numbers, and no way to ask for them
    compare(SRK(), "srk", equation(noise, "ito", Increments(seed=5)))


@pytest.mark.parametrize("solver", [Milstein(), StratonovichMilstein()], ids=repr)
def test_milstein_with_scalar_noise_where_a_jacobian_is_its_transpose(solver, double):
    term = equation("scalar", solver.info.calculus, Increments(seed=5))
    with torch.no_grad():
        term.g.field.scale.fill_(0.4)
        term.g.field.matrix.copy_(term.g.field.matrix + term.g.field.matrix.mT)

    def symmetric(t, y):  # the gradient of a function of y
        return 0.4 * torch.cos(y @ term.g.field.matrix + t) @ term.g.field.matrix.mT

    term.g.field.forward = symmetric
    compare(solver, "milstein", term)


def test_additive_noise_by_a_matrix(double):
    term = equation("additive", "ito", Increments(seed=5), channels=2)
    compare(SRK(), "srk", term)
    compare(Milstein(), "milstein", term)


def test_lengths_of_steps_may_differ(double):
    term, y0 = equation("diagonal", "ito", Increments(seed=5, base=even(8))), torch.randn(4, 3)
    first, both = solve(term, y0, [0.0, 0.25, 1.0], solver=SRK()), solve(term, y0, [0.0, 0.25], solver=SRK())
    assert torch.equal(first.ys[1], both.y1)
