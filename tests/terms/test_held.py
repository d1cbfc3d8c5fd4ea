"""Noise of a size known before the solve."""

import pytest
import torch

from deqlight import ODETerm, SDETerm, record, solve
from deqlight.brownian import Increments, Interval, Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.fields import MLP
from deqlight.gradients import Checkpoint, Direct, Reversible
from deqlight.solvers import SRK, Euler, Heun, ReversibleHeun, StepDoubling
from deqlight.terms.held import Held

KEY = Key(seed=3)


def solved(term, solver, y0, gradient=Direct(), controller=Constant(steps=6)):  # noqa: B008
    with keyed(KEY):
        return solve(term, y0, [0.0, 1.0], solver=solver, controller=controller, gradient=gradient)


@pytest.mark.parametrize("solver", [Euler(), Heun(), SRK()], ids=lambda solver: type(solver).__name__)
def test_it_is_the_sde_with_that_diffusion(double, solver):
    field, y0, size = MLP(3, hidden=8), torch.randn(5, 3), torch.rand(5, 1)
    other = SDETerm(field, lambda t, y: size.expand_as(y), noise="additive", calculus=solver.info.calculus)
    assert torch.equal(solved(Held(ODETerm(field), size, Increments()), solver, y0).y1, solved(other, solver, y0).y1)


def test_only_the_drift_is_counted():
    with record() as solves:
        solved(Held(ODETerm(MLP(3)), torch.ones(5, 1), Increments()), Euler(), torch.randn(5, 3))
    assert solves[0].nfe.tolist() == [6] * 5


@pytest.mark.parametrize(
    ("rule", "solver"), [(Checkpoint(budget=2), Euler()), (Reversible(), ReversibleHeun())], ids=["kept", "undone"]
)
def test_each_rule_gives_the_gradient_of_the_size(double, rule, solver):
    field, y0 = MLP(3, hidden=8), torch.randn(5, 3)
    found = []
    for gradient in (Direct(), rule):
        size = torch.linspace(0.1, 0.5, 5)[:, None].requires_grad_()
        y1 = solved(Held(ODETerm(field), size, Increments()), solver, y0, gradient).y1
        found.append(torch.autograd.grad(y1.square().sum(), (size, *field.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-8) for a, b in zip(*found, strict=True))
    assert found[0][0].abs().min() > 0


def test_samples_keep_their_size_when_others_leave(double):
    size, y0 = torch.tensor([[0.0], [0.3], [3.0]]), torch.ones(3, 2)
    term = Held(ODETerm(lambda t, y: -y), size, Interval())
    controller = PID(rtol=1e-4, atol=1e-4)
    together = solved(term, StepDoubling(Heun()), y0, controller=controller).y1
    for n in range(3):
        alone = Held(ODETerm(lambda t, y: -y), size[n : n + 1], Interval())
        with keyed(Key(seed=3, ids=torch.tensor([n]))):
            one = solve(alone, y0[n : n + 1], [0.0, 1.0], solver=StepDoubling(Heun()), controller=controller).y1
        assert torch.equal(one[0], together[n])
