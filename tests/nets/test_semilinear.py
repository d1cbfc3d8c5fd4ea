"""Semilinear stages: residual networks whose linear part is solved exactly."""

import pickle

import pytest
import torch
from torch.nn import functional as F

from deqlight import record
from deqlight.errors import InputError
from deqlight.fields import ChannelDecay, GroupNorm2d, PreActivation
from deqlight.gradients import Direct, Reversible
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead, SemilinearStage, Transition
from deqlight.solvers import AB2, ETD1, ETD2, ETDRK4, RK4, Euler, IMEXEuler, KenCarp4, ReversiblePair, StepDoubling
from deqlight.terms import LinearFlow

EXACT = 1e-5  # of float32, over a few layers


def quiet(channels):
    return PreActivation(channels, GroupNorm2d)


def network(solver, linear=ChannelDecay, **options):
    stages = [
        SemilinearStage(linear, quiet, 8, 3),
        SemilinearStage(linear, quiet, 16, 2, Transition(8, 16, GroupNorm2d)),
    ]
    return DepthNet(ConvStem(1, 8), stages, PoolHead(16, 10, GroupNorm2d), solver=solver, **options)


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8)


SOLVERS = [ETD1(), ETD2(), ETDRK4(), IMEXEuler(), KenCarp4(), Euler(), RK4(), AB2()]
SOLVERS += [StepDoubling(ETDRK4()), ReversiblePair(ETD1())]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_every_integrator_of_sums_is_an_architecture(solver, images):
    net = network(solver)
    scores = net(images)
    assert scores.shape == (4, 10)
    scores.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert all(bool(p.grad.abs().sum() > 0) for name, p in net.named_parameters() if name.endswith("raw"))


def test_a_stage_by_etd1_is_a_loop_of_decay_and_branch():
    stage, x = SemilinearStage(ChannelDecay, quiet, 8, 3), torch.randn(2, 8, 4, 4)
    net = DepthNet(torch.nn.Identity(), [stage], torch.nn.Identity(), solver=ETD1())
    u = x
    for decay, block in zip(stage.term.implicit.layers, stage.term.explicit.layers, strict=True):
        rate = F.softplus(decay.field.raw)  # (channels, 1, 1)
        u = torch.exp(-rate) * u + (1 - torch.exp(-rate)) / rate * block.field(0.0, u)
    assert torch.allclose(net(x), u, rtol=EXACT, atol=EXACT)


def test_evaluations_are_those_of_the_branches(images):
    for solver, nfe in ((ETD1(), [3, 2]), (ETD2(), [3, 2]), (ETDRK4(), [12, 8])):
        with record() as solves:
            network(solver)(images)
        assert [int(s.nfe[0]) for s in solves] == nfe


def test_no_decay_is_a_residual_network(images):
    def hardly(channels):
        return ChannelDecay(channels, rate=1e-9)

    net = network(ETD1(), hardly)
    plain = DepthNet(
        net.stem, [LayeredStage(quiet, 8, 3), LayeredStage(quiet, 16, 2, net.stages[1].entry)], net.head, solver=Euler()
    )
    for mine, theirs in zip(plain.stages, net.stages, strict=True):
        mine.term = theirs.term.explicit
    assert torch.allclose(net(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_strong_decay_is_stable_at_any_depth():
    stage = SemilinearStage(lambda n: ChannelDecay(n, rate=1e4), quiet, 8, 64)
    net = DepthNet(torch.nn.Identity(), [stage], torch.nn.Identity(), solver=ETDRK4())
    with torch.no_grad():
        assert float(net(torch.randn(2, 8, 4, 4)).abs().max()) < 1.0


def test_reversible_gradients_of_a_semilinear_network(images):
    found, net = [], network(ReversiblePair(ETD1())).double()
    for gradient in (Direct(), Reversible()):
        net.gradient = gradient
        found.append(torch.autograd.grad(net(images.double()).square().sum(), tuple(net.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-10) for a, b in zip(*found, strict=True))


def test_a_network_goes_through_its_weights_and_pickle(images):
    net, twin = network(ETDRK4()), network(ETDRK4())
    assert not torch.equal(net(images), twin(images))
    twin.load_state_dict(net.state_dict())
    assert torch.equal(net(images), twin(images))
    twin = pickle.loads(pickle.dumps(network(ETD2(), ChannelDecay)))
    assert twin(images).shape == (4, 10)


def test_a_depth_grid_compiles_to_one_graph(images):
    net = network(ETD1())
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(images), net(images), rtol=EXACT, atol=EXACT)


def test_the_decay_of_channels_begins_where_it_is_told(double):
    field, y = ChannelDecay(4, rate=0.3), torch.randn(2, 4, 3, 3)
    assert isinstance(field, LinearFlow)
    assert torch.allclose(field(0.0, y), -0.3 * y, rtol=1e-13)
    assert torch.allclose(field.phi(0, 2.0, y), torch.exp(torch.tensor(-0.6)) * y, rtol=1e-13)
    for rate in (1e-8, 50.0, 1e4):
        assert torch.allclose(ChannelDecay(1, rate).diagonal, torch.tensor(-rate), rtol=1e-7)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf")])
def test_a_decay_must_decay(rate):
    with pytest.raises(InputError, match="it must be positive and finite"):
        ChannelDecay(4, rate)


def test_what_is_no_flow_is_refused_as_the_linear_part():
    with pytest.raises(InputError, match="it needs a LinearFlow"):
        SemilinearStage(quiet, quiet, 8, 2)
    with pytest.raises(InputError, match="at least one layer"):
        SemilinearStage(ChannelDecay, quiet, 8, 0)
    with pytest.raises(InputError, match="got the term Layered; it integrates Semilinear"):
        DepthNet(ConvStem(1, 8), [LayeredStage(quiet, 8, 2)], PoolHead(8, 10), solver=ETD1())
