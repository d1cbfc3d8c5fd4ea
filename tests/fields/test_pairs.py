"""Fields made of two: halves that share a convolution, and the modules of PolyNet."""

import pytest
import torch
from torch import nn

from deqlight.errors import InputError
from deqlight.fields import Poly, PreActivation, Skew
from deqlight.gradients import Direct, Reversible
from deqlight.nets import ConvStem, CoupledStage, DepthNet, LayeredStage, PoolHead
from deqlight.solvers import Euler, Neumann, SymplecticEuler, Verlet


def jacobian(pair, size=3, channels=2):
    """Of both halves at zero, as one matrix."""
    shape = (1, channels, size, size)
    n = channels * size**2
    force = torch.autograd.functional.jacobian(lambda q: pair.force(0.0, q), torch.zeros(shape)).reshape(n, n)
    velocity = torch.autograd.functional.jacobian(lambda p: pair.velocity(0.0, p), torch.zeros(shape)).reshape(n, n)
    return velocity, force


def test_around_zero_the_pair_turns(double):
    """The force's Jacobian is that of the velocity, transposed, with the other sign: exact adjoints."""
    velocity, force = jacobian(Skew(2, 0.3))
    assert torch.allclose(velocity, -force.T, atol=1e-15) and float(velocity.abs().max()) > 0.05
    whole = torch.cat(
        [torch.cat([torch.zeros_like(velocity), velocity], 1), torch.cat([force, torch.zeros_like(force)], 1)]
    )
    assert float(torch.linalg.eigvals(whole).real.abs().max()) < 1e-14


def test_small_states_neither_grow_nor_fade_over_a_thousand_layers(double):
    """By the staggered method, which turns as they do, |q|² + |p|² stays within a band; Euler's method grows."""
    torch.manual_seed(0)
    pair = Skew(2, 0.05)
    stage = CoupledStage(lambda channels: pair, 4, 1000)
    x = 1e-4 * torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        kept, grown = (
            DepthNet(nn.Identity(), [stage], nn.Identity(), solver=solver)(x).norm() / x.norm()
            for solver in (SymplecticEuler(), Euler())
        )
    assert 0.8 < float(kept) < 1.2 and float(grown) > 2.0


@pytest.mark.parametrize("solver", [SymplecticEuler(), Verlet()], ids=repr)
def test_halves_that_share_weights_get_the_whole_gradient_by_undoing(double, solver):
    torch.manual_seed(0)
    net, x, grads = DepthNet(ConvStem(1, 8), [CoupledStage(Skew, 8, 5)], PoolHead(8, 3), solver=solver), None, []
    x = torch.rand(3, 1, 6, 6)
    for rule in (Direct(), Reversible()):
        net.gradient = rule
        grads.append(torch.autograd.grad(net(x).square().sum(), list(net.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(*grads, strict=True))
    assert sum(p.dim() == 4 for p in net.stages[0].parameters()) == 5  # one convolution a layer


def test_a_verlet_network_is_the_published_recursion(double):
    """p is known half a step later: p₊½ = p₋½ − h s(K q + b) and q₊ = q + h s(Kᵀ p₊½ + a), from the other end."""
    net = DepthNet(nn.Identity(), [CoupledStage(lambda n: Skew(n, 0.5), 4, 3)], nn.Identity(), solver=SymplecticEuler())
    x = torch.randn(2, 4, 5, 5)
    q, p = x.chunk(2, 1)
    layers = zip(net.stages[0].term.velocity.layers, net.stages[0].term.force.layers, strict=True)
    for velocity, force in layers:
        q = q + 0.5 * torch.tanh(
            nn.functional.conv_transpose2d(p, velocity.field.weight, velocity.field.bias, padding=1)
        )
        p = p - 0.5 * torch.tanh(nn.functional.conv2d(q, velocity.field.weight, force.field.bias, padding=1))
    assert torch.allclose(net(x), torch.cat([q, p], 1), rtol=1e-12)


def test_a_pair_needs_both_fields():
    with pytest.raises(InputError, match="PreActivation, which has no velocity and force; use Skew"):
        CoupledStage(PreActivation, 8, 2)


@pytest.mark.parametrize("kind", ["mpoly-2", "2-way"])
def test_modules_of_polynet_are_their_polynomials(kind):
    field, x = Poly(4, PreActivation, kind).eval(), torch.rand(2, 4, 5, 5)
    first = field.first(0.0, x)
    assert torch.equal(field(0.0, x), first + field.second(0.0, first if kind == "mpoly-2" else x))


def test_with_one_block_for_both_it_is_the_integrators_polynomial():
    """mpoly-2 whose blocks are one is poly-2."""
    field, x = Poly(4, PreActivation).eval(), torch.rand(2, 4, 5, 5)
    field.second = field.first
    one, other = LayeredStage(lambda n: field, 4, 1), LayeredStage(lambda n: field.first, 4, 1)
    nets = (
        DepthNet(nn.Identity(), [one], nn.Identity(), solver=Euler()),
        DepthNet(nn.Identity(), [other], nn.Identity(), solver=Neumann(2)),
    )
    a, b = (net.eval()(x) for net in nets)
    assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_other_polynomials_are_refused():
    with pytest.raises(InputError, match="mpoly-2, 2-way"):
        Poly(4, PreActivation, "poly-2")
