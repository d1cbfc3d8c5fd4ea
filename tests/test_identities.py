"""Depth is time: a solver on a layered term is the published network, bit for bit, against loops written by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deqlight import Layered, Partitioned, solve
from deqlight.fields import PreActivation
from deqlight.solvers import RK4, Euler, Heun, Leapfrog, LinearTwoStep, Stormer, SymplecticEuler, Verlet

LAYERS = 5
GRID = list(range(LAYERS + 1))


def blocks(n=LAYERS, channels=4):
    return [PreActivation(channels) for _ in range(n)]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def x(request):
    return torch.randn(3, 4, 8, 8, dtype=request.param)


def run(term, y0, solver):
    return solve(term.to(y0[0].dtype), y0, GRID, solver=solver).y1


def test_resnet_is_euler(x):
    layers = blocks()
    got = run(Layered(layers), x, Euler())
    u = x
    for f in layers:
        u = u + f.conv2(F.relu(f.norm2(f.conv1(F.relu(f.norm1(u))))))
    assert torch.equal(got, u)


@pytest.mark.parametrize("k", [0.0, -0.1, 0.3])
def test_lm_resnet_is_the_linear_two_step_method(x, k):
    layers = blocks()
    got = run(Layered(layers), x, LinearTwoStep(k))
    last, u = x, x + layers[0](0.0, x)
    for f in layers[1:]:
        last, u = u, (1 - k) * u + k * last + f(0.0, u)
    assert torch.equal(got, u)


def test_learnt_coefficients_are_those_of_the_layers(x):
    solver = LinearTwoStep(-0.05, learn=True).bind(LAYERS, 4).to(x.dtype)
    with torch.no_grad():
        solver.k.copy_(torch.tensor([0.1, -0.2, 0.3, -0.1]))
    layers = blocks()
    got = run(Layered(layers), x, solver)
    last, u = x, x + layers[0](0.0, x)
    for f, k in zip(layers[1:], solver.k, strict=True):
        last, u = u, (1 - k) * u + k * last + f(0.0, u)
    assert torch.equal(got, u)


def test_lm_resnet_without_memory_is_resnet(x):
    layers = blocks()
    assert torch.equal(run(Layered(layers), x, LinearTwoStep(0.0)), run(Layered(layers), x, Euler()))


def test_revnet_is_symplectic_euler(x):
    f, g = blocks(), blocks()
    q, p = run(Partitioned(Layered(f), Layered(g)), (x, x.flip(0)), SymplecticEuler())
    u, v = x, x.flip(0)
    for fn, gn in zip(f, g, strict=True):
        u = u + fn(0.0, v)
        v = v + gn(0.0, u)
    assert torch.equal(q, u) and torch.equal(p, v)


def test_midpoint_network_is_leapfrog(x):
    layers = blocks()
    got = run(Layered(layers), x, Leapfrog())
    last, u = x, x + layers[0](0.0, x)
    for f in layers[1:]:
        last, u = u, last + 2 * f(0.0, u)
    assert torch.equal(got, u)


def test_second_order_network_is_stormer(x):
    layers = blocks()
    got = run(Layered(layers), x, Stormer())
    last, u = x, x + 0.5 * layers[0](0.0, x)
    for f in layers[1:]:
        last, u = u, 2 * u - last + f(0.0, u)
    assert torch.equal(got, u)


def test_all_stages_of_a_layer_share_its_weights(x):
    layers = blocks()
    got = run(Layered(layers), x, Heun())
    u = x
    for f in layers:
        k1 = f(0.0, u)
        u = u + 0.5 * k1 + 0.5 * f(1.0, u + k1)
    assert torch.allclose(got, u, rtol=1e-5 if x.dtype == torch.float32 else 1e-13)


def test_half_steps_are_the_same_equation_at_twice_the_depth(double):
    layers = [nn.Linear(4, 4) for _ in range(2)]
    fields = [lambda t, y, f=f: torch.tanh(f(y)) for f in layers]
    y0, grid = torch.randn(3, 4), [0.0, 0.5, 1.0, 1.5, 2.0]
    got = solve(Layered(fields), y0, grid, solver=Euler()).y1
    u = y0
    for f in fields:
        for _ in range(2):
            u = u + 0.5 * f(0.0, u)
    assert torch.equal(got, u)


@pytest.mark.parametrize("solver", [Euler(), RK4(), Verlet()], ids=repr)
def test_order_within_a_layer_with_shared_weights(solver, double):
    """At 1/h steps a layer, the network tends to its equation at the solver's order."""
    f, g = nn.Linear(4, 4), nn.Linear(4, 4)
    halves = [lambda t, y: torch.tanh(f(y)), lambda t, y: torch.tanh(g(y))]
    term = Partitioned(*(Layered([half, half]) for half in halves))
    y0 = (torch.randn(3, 4), torch.randn(3, 4))
    ends = [solve(term, y0, torch.linspace(0, 2, 2 * n + 1), solver=solver).y1[0].detach() for n in (8, 16, 32)]
    ratio = (ends[0] - ends[1]).norm() / (ends[1] - ends[2]).norm()
    assert torch.log2(ratio) == pytest.approx(solver.info.order, abs=0.15)
