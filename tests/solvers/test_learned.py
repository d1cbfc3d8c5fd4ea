"""Runge–Kutta methods that are learnt: they begin as known ones, stay consistent, and get their gradients."""

import pytest
import torch

from deqlight import Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import MLP, ConcatConv
from deqlight.nets import ContinuousStage, ConvStem, DepthNet, PoolHead
from deqlight.solvers import AB2, RK4, RK38, SSPRK3, Dopri5, Euler, Heun, LearnedRungeKutta


@pytest.mark.parametrize("start", [Euler(), Heun(), SSPRK3(), RK4(), RK38(), Dopri5()], ids=repr)
def test_it_begins_as_the_method_it_is_told(double, start):
    field, x = MLP(4, hidden=8, depth=1), torch.randn(3, 4)
    one, other = (
        solve(ODETerm(field), x, [0.0, 1.0], solver=solver, controller=Constant(steps=3)).y1
        for solver in (start, LearnedRungeKutta(start))
    )
    assert torch.allclose(one, other, rtol=1e-12)


def test_whatever_it_learns_its_weights_sum_to_one_and_its_nodes_are_those_of_its_rows(double):
    """Heun's method with rows and weights moved: exact for dy/dt = 2 f with f = 1, and times where the rows say."""
    solver, times = LearnedRungeKutta(Heun()), []
    with torch.no_grad():
        solver.a.fill_(0.3)
        solver.b.copy_(torch.tensor([2.0, 0.7]))
    assert solver.weights.tolist() == pytest.approx([1.15, -0.15])

    def field(t, y):
        times.append(float(torch.as_tensor(t).detach()))
        return torch.full_like(y, 2.0)

    y1 = solve(ODETerm(field), torch.zeros(1, 1), [1.0, 3.0], solver=solver).y1
    assert float(y1) == pytest.approx(4.0, rel=1e-14) and times == pytest.approx([1.0, 1.6])


def test_coefficients_get_the_gradient_of_differences(double):
    """Of a field that depends on time, so that nodes matter, too."""
    solver, x = LearnedRungeKutta(RK4()), torch.randn(3, 4)
    w = torch.randn(4, 4)

    def value():
        term = ODETerm(lambda t, y: torch.tanh(y @ w) * torch.cos(torch.as_tensor(3 * t)))
        return solve(term, x, [0.0, 1.0], solver=solver).y1.square().sum()

    grads = torch.autograd.grad(value(), [solver.a, solver.b])
    for p, grad in zip((solver.a, solver.b), grads, strict=True):
        for i in range(len(p)):
            ends = []
            for shift in (1e-6, -1e-6):
                with torch.no_grad():
                    p[i] += shift
                    ends.append(float(value()))
                    p[i] -= shift
            assert float(grad[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_each_stage_of_a_network_learns_a_method_of_its_own():
    torch.manual_seed(0)
    stages = [ContinuousStage(ConcatConv, 8), ContinuousStage(ConcatConv, 8)]
    net = DepthNet(ConvStem(1, 8), stages, PoolHead(8, 3), solver=LearnedRungeKutta(Heun()))
    names = [name for name, _ in net.named_parameters() if name.startswith("coefficients")]
    assert names == ["coefficients.0.a", "coefficients.0.b", "coefficients.1.a", "coefficients.1.b"]
    net(torch.randn(2, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.coefficients.parameters())


def test_steps_within_layers_share_the_method():
    layers, x = Layered(MLP(4, hidden=8, depth=1) for _ in range(2)), torch.randn(3, 4)
    solver = LearnedRungeKutta(Heun())
    y1 = solve(layers, x, range(3), solver=solver, controller=Constant(steps=2)).y1
    y1.sum().backward()
    assert solver.a.grad is not None and torch.isfinite(y1).all()


def test_methods_without_such_a_tableau_are_refused():
    with pytest.raises(InputError, match="explicit Runge–Kutta"):
        LearnedRungeKutta(AB2())
