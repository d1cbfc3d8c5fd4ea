"""IMEXnets: the solve by Fourier transforms against a dense one, equilibria, reach, and where nothing is stiff."""

import math

import pytest
import torch
from torch import nn

from deqlight import Semilinear, record, solve
from deqlight.errors import InputError, ShapeError
from deqlight.fields import ChannelDecay, GroupNorm2d, PeriodicDiffusion, PreActivation
from deqlight.nets import ConvStem, DepthNet, IMEXStage, LayeredStage, PoolHead, Transition
from deqlight.solvers import ETD1, RK4, Euler, IMEXEuler, KenCarp4
from deqlight.terms import MatrixFlow, Split

CHANNELS = 3


def quiet(channels):
    return PreActivation(channels, GroupNorm2d)


def bent(rate=0.4):
    """A diffusion whose channels and directions differ."""
    field = PeriodicDiffusion(CHANNELS, rate)
    with torch.no_grad():
        field.raw.add_(torch.randn_like(field.raw))
    return field


def matrix(field, height, width):
    """L of each channel, `(channels, n, n)`, column by column."""
    n = height * width
    columns = torch.eye(n).reshape(n, 1, height, width).expand(-1, CHANNELS, -1, -1)
    return field(0.0, columns).detach().reshape(n, CHANNELS, n).permute(1, 2, 0)


@pytest.mark.parametrize("size", [(6, 5), (4, 8), (3, 3), (2, 2)])
def test_its_functions_are_those_of_the_matrix(double, size):
    """(I − hL)⁻¹ and φₖ(hL), h of each sample its own, against dense linear algebra; sizes even, odd and small."""
    field, y = bent(), torch.randn(2, CHANNELS, *size)
    dense = matrix(field, *size)
    h = torch.tensor([0.3, 2.0]).reshape(2, 1, 1, 1)
    flat = y.flatten(2)  # (batch, channels, n)
    eye = torch.eye(dense.shape[-1])
    for i, step in enumerate(h.flatten()):
        exact = torch.linalg.solve(eye - step * dense, flat[i])
        assert torch.allclose(field.resolvent(h)(y)[i].flatten(1), exact, atol=1e-12)
        for k in range(4):
            for c in range(CHANNELS):
                wanted = MatrixFlow(dense[c]).phi(k, float(step), flat[i : i + 1, c])
                assert torch.allclose(field.phi(k, h, y)[i, c].flatten(), wanted[0], atol=1e-11)


def test_it_is_symmetric_and_negative_definite(double):
    field = bent()
    for dense in matrix(field, 5, 6):
        assert torch.allclose(dense, dense.T, atol=1e-14)
        assert float(torch.linalg.eigvalsh(dense).max()) < 0


def test_it_begins_where_it_is_told_and_forgets_no_mean(double):
    """Constant images decay at the rate r, all other waves faster."""
    field = PeriodicDiffusion(CHANNELS, 0.25)
    ones = torch.ones(1, CHANNELS, 4, 4)
    assert torch.allclose(field(0.0, ones), -0.25 * ones, rtol=1e-12)
    checked = ones * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 2)
    assert torch.allclose(field(0.0, checked), -(0.25 + 2 * 0.25 * 4) * checked, rtol=1e-12)


def test_a_step_of_the_net_is_the_published_one(double):
    """(I + hL) u₊ = u + hLu + hf(u), solved densely; nothing iterates, and f alone is counted."""
    stage = IMEXStage(lambda n: bent(), quiet, CHANNELS, 2)
    net, x = DepthNet(nn.Identity(), [stage], nn.Identity(), solver=IMEXEuler()), torch.randn(2, CHANNELS, 5, 4)
    with record() as solves:
        got = net(x)
    assert [int(s.nfe[0]) for s in solves] == [2]
    u = x
    for flow, rest in zip(stage.term.implicit.layers, stage.term.explicit.layers, strict=True):
        dense, f = -matrix(flow.field, 5, 4), rest.field.block(0.0, u)
        right = (u + f).flatten(2) + torch.einsum("cij,bcj->bci", dense, u.flatten(2))
        u = torch.linalg.solve(torch.eye(20) + dense, right[..., None])[..., 0].reshape(u.shape)
    assert torch.allclose(got, u, atol=1e-11)


def test_the_solve_at_once_is_what_iterations_come_to(double):
    """The same split equation without the name of its linear part goes through Newton's method and GMRES."""
    flow, field, y = bent(), quiet(CHANNELS), torch.randn(2, CHANNELS, 4, 4)
    one, other = (
        solve(term, y, [0.0, 0.7], solver=IMEXEuler()) for term in (Semilinear(flow, field), Split(field, flow))
    )
    assert torch.allclose(one.y1, other.y1, rtol=1e-10, atol=1e-10)
    assert int(one.stats.nfe[0]) == 1 < int(other.stats.nfe[0])
    assert all(
        torch.allclose(a, b, rtol=1e-8, atol=1e-9)
        for a, b in zip(
            *(torch.autograd.grad(s.y1.square().sum(), [flow.raw, *field.parameters()]) for s in (one, other)),
            strict=True,
        )
    )


def test_where_the_solve_is_not_known_the_block_is_evaluated_once_all_the_same(double):
    calls = []

    def field(t, u):
        calls.append(t)
        return torch.sin(u)

    with torch.no_grad():
        solve(Semilinear(MatrixFlow(-torch.eye(4)), field), torch.randn(2, 4), [0.0, 0.5], solver=IMEXEuler())
    assert calls == [0.0]


def test_decays_of_channels_are_solved_at_once_too(double):
    y, h = torch.randn(2, CHANNELS, 4, 4), 0.5
    term = Semilinear(ChannelDecay(CHANNELS, 0.3), lambda t, u: torch.sin(u))
    got = solve(term, y, [0.0, h], solver=IMEXEuler()).y1
    assert torch.allclose(got, (y + h * torch.sin(y)) / (1 + h * 0.3), rtol=1e-12)


@pytest.mark.parametrize("solver", [Euler(), RK4()], ids=repr)
def test_plain_methods_see_the_block_alone(double, solver):
    stage = IMEXStage(lambda n: bent(), quiet, CHANNELS, 3)
    plain = LayeredStage(quiet, CHANNELS, 3)
    for mine, theirs in zip(plain.term.layers, stage.term.explicit.layers, strict=True):
        mine.field = theirs.field.block
    x = torch.randn(2, CHANNELS, 4, 4)
    one, other = (DepthNet(nn.Identity(), [s], nn.Identity(), solver=solver)(x) for s in (stage, plain))
    assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_equilibria_of_the_block_stay(double):
    """Where f(u) = 0 the net stands still, however strong L: it is added, and taken off."""

    class Still(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, t, y):
            return y * (1 - y.square()) * 0.0

    stage = IMEXStage(lambda n: PeriodicDiffusion(n, 30.0), Still, CHANNELS, 4)
    x = torch.randn(2, CHANNELS, 4, 4)
    assert torch.allclose(DepthNet(nn.Identity(), [stage], nn.Identity(), solver=IMEXEuler())(x), x, atol=1e-12)


def test_stiff_blocks_that_break_a_residual_network_are_held(double):
    """du/dt = −60 (4-neighbour Laplacian): Euler's step grows by hundreds, the split one stays."""

    class Stiff(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.flow = PeriodicDiffusion(channels, 30.0)

        def forward(self, t, y):
            return self.flow(t, y)

    stage, x = IMEXStage(lambda n: PeriodicDiffusion(n, 30.0), Stiff, CHANNELS, 8), torch.randn(2, CHANNELS, 8, 8)
    held, loose = (DepthNet(nn.Identity(), [stage], nn.Identity(), solver=s)(x) for s in (IMEXEuler(), Euler()))
    assert held.abs().max() <= x.abs().max() and loose.abs().max() > 1e10


def test_one_layer_reaches_every_pixel():
    """Of a residual block a corner sees two pixels around it; of the split one, all."""
    reached = {}
    for solver in (IMEXEuler(), Euler()):
        torch.manual_seed(0)
        stage = IMEXStage(PeriodicDiffusion, quiet, CHANNELS, 1)
        for layer in stage.term.explicit.layers:
            layer.field.block.norm1, layer.field.block.norm2 = nn.Identity(), nn.Identity()  # group norms reach, too
        x = torch.rand(1, CHANNELS, 12, 12, requires_grad=True)
        out = DepthNet(nn.Identity(), [stage], nn.Identity(), solver=solver)(x)
        (grad,) = torch.autograd.grad(out[0, :, 0, 0].sum(), x)
        reached[type(solver)] = float((grad[0].abs().sum(0) > 1e-12).float().mean())
    assert reached[IMEXEuler] == 1.0 and reached[Euler] < 0.3


@pytest.mark.parametrize("solver", [IMEXEuler(), ETD1(), KenCarp4()], ids=repr)
def test_it_trains_with_every_method_for_sums(solver):
    stages = [IMEXStage(PeriodicDiffusion, quiet, 8, 2), IMEXStage(PeriodicDiffusion, quiet, 16, 1, Transition(8, 16))]
    net = DepthNet(ConvStem(1, 8), stages, PoolHead(16, 10), solver=solver)
    net(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert all(bool(p.grad.abs().sum() > 0) for name, p in net.named_parameters() if name.endswith("raw"))
    assert len([name for name, _ in net.named_parameters() if name.endswith("raw")]) == 3  # shared by both parts


def test_half_precision_goes_through_the_transforms():
    field, y = PeriodicDiffusion(CHANNELS, 0.5), torch.randn(2, CHANNELS, 6, 6)
    low = field.resolvent(1.0)(y.bfloat16())
    assert low.dtype == torch.bfloat16 and torch.allclose(low.float(), field.resolvent(1.0)(y), atol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        low = field(0.0, y)
    assert low.dtype == torch.bfloat16 and torch.allclose(low.float(), field(0.0, y), rtol=0.02, atol=0.1)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_diffusion_must_diffuse(rate):
    with pytest.raises(InputError, match=r"PeriodicDiffusion got rate.*positive and finite"):
        PeriodicDiffusion(CHANNELS, rate)


def test_it_acts_on_states_of_one_tensor():
    with pytest.raises(ShapeError, match="states of one"):
        PeriodicDiffusion(CHANNELS)(0.0, (torch.ones(1, CHANNELS, 2, 2),) * 2)
