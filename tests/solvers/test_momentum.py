"""Momentum networks: the published recursion, the equation of second order behind it, and how far it can be undone."""

import pytest
import torch

from deqlight import Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import MLP
from deqlight.gradients import Direct, Reversible
from deqlight.solvers import Euler, LinearTwoStep, Momentum

LAYERS = 60


def blocks(layers=6, width=4):
    return [MLP(width, hidden=8, depth=1) for _ in range(layers)]


@pytest.mark.parametrize("rest", [True, False])
def test_it_is_the_published_recursion(double, rest):
    layers, x, gamma = blocks(), torch.randn(3, 4), 0.7
    got = solve(Layered(layers), x, range(7), solver=Momentum(gamma, rest)).y1
    v = torch.zeros_like(x) if rest else layers[0](0.0, x)
    for n, f in enumerate(layers):
        v = gamma * v + (1 - gamma) * f(float(n), x)
        x = x + v
    assert torch.allclose(got, x, rtol=1e-13, atol=0)


def test_without_inertia_it_is_a_residual_network():
    layers, x = blocks(), torch.randn(3, 4)
    for rest in (True, False):
        got = solve(Layered(layers), x, range(7), solver=Momentum(0.0, rest)).y1
        assert torch.equal(got, solve(Layered(layers), x, range(7), solver=Euler()).y1)


def test_it_is_an_lm_resnet_whose_fields_are_scaled(double):
    """y₊ = (1 + γ) y − γ y₋ + (1 − γ) f: the two-step method with k = −γ, from the same first step."""
    layers, x, gamma = blocks(), torch.randn(3, 4), 0.6
    scaled = [layers[0], *((lambda t, y, f=f: (1 - gamma) * f(t, y)) for f in layers[1:])]
    got = solve(Layered(layers), x, range(7), solver=Momentum(gamma, rest=False)).y1
    assert torch.allclose(got, solve(Layered(scaled), x, range(7), solver=LinearTwoStep(-gamma)).y1, rtol=1e-12)


def test_in_long_nets_it_follows_the_equation_of_second_order(double):
    """ε y″ + y′ = −y from rest, ε in units of a step: the closed form, at first order in the step."""
    roots = [(-1 + s * (1 - 4 * 0.2) ** 0.5) / (2 * 0.2) for s in (1, -1)]  # of ε r² + r + 1, ε = 0.2
    a, b = roots[1] / (roots[1] - roots[0]), -roots[0] / (roots[1] - roots[0])
    exact, errors = sum(w * torch.exp(torch.tensor(2 * r)) for w, r in ((a, roots[0]), (b, roots[1]))), []
    for n in (100, 200, 400):
        h = 2.0 / n
        term = ODETerm(lambda t, y, h=h: -y)
        got = solve(term, torch.ones(1, 1), [0.0, 2.0], solver=Momentum(1 - h / 0.2), controller=Constant(steps=n)).y1
        errors.append(abs(float(got) - float(exact)))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1) and errors[1] / errors[2] == pytest.approx(2, abs=0.1)


def undone(gamma, dtype, layers=LAYERS):
    """By how much the start is missed after so many layers done and undone, relatively."""
    torch.manual_seed(0)
    term, solver = Layered(blocks(layers)).to(dtype), Momentum(gamma)
    y0 = torch.randn(8, 4, dtype=dtype)
    with torch.no_grad():
        y, carry = y0, None
        for n in range(layers):
            y, carry, *_ = solver.step(term.over(float(n), n + 1.0), float(n), n + 1.0, y, carry)
        for n in reversed(range(layers)):
            y, carry, *_ = solver.unstep(term.over(float(n), n + 1.0), float(n), n + 1.0, y, carry)
    assert carry is None
    return float((y - y0).abs().max() / y0.abs().max())


@pytest.mark.parametrize("gamma", [0.9, 0.7, 0.5])
def test_undoing_loses_as_many_digits_as_the_memory_shrinks_by_and_no_fewer(gamma):
    """Rounding grows by γ⁻ᴸ: a bound from above, and from below, since no honest way back does better."""
    eps, growth = torch.finfo(torch.float64).eps, gamma**-LAYERS
    assert 1e-3 * eps * growth < undone(gamma, torch.float64) < 1e2 * eps * growth


def test_in_single_precision_it_cannot_be_undone_over_many_layers():
    assert undone(0.9, torch.float32) > 1e-5 and undone(0.5, torch.float32) > 1e3


def test_the_gradient_by_undoing_is_that_of_the_steps_or_refused(double):
    layers, x = Layered(blocks(20)), torch.randn(3, 4)
    grads = []
    for rule in (Direct(), Reversible()):
        y = solve(layers, x, range(21), solver=Momentum(0.9), gradient=rule).y1
        grads.append(torch.autograd.grad(y.square().sum(), list(layers.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(*grads, strict=True))
    with pytest.raises(InputError, match=r"0\.5 each.*take 9 steps at most"):
        solve(layers, x, range(21), solver=Momentum(0.5), gradient=Reversible())
    with pytest.raises(InputError, match="forgets at once; use the gradient Direct"):
        solve(layers, x, range(21), solver=Momentum(0.0), gradient=Reversible())


@pytest.mark.parametrize("gamma", [1.0, -0.1, float("nan")])
def test_other_inertia_is_refused(gamma):
    with pytest.raises(InputError, match="at least 0 and below 1"):
        Momentum(gamma)
