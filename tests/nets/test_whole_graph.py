"""`torch.compile` of a whole network: one graph of a training step, one of evaluation, whatever the equation."""

from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.exc import Unsupported
from torch._dynamo.utils import counters

from deqlight.brownian import Key, keyed
from deqlight.controllers import Constant
from deqlight.fields import Antisymmetric, ChannelDecay, ConcatConv, GroupNorm2d, PreActivation, Symmetric
from deqlight.gradients import Checkpoint, Direct, Reversible
from deqlight.nets import (
    ContinuousStage,
    ConvStem,
    DepthNet,
    LayeredStage,
    PartitionedStage,
    PoolHead,
    SemilinearStage,
    Transition,
)
from deqlight.regularizers import StochasticDepth
from deqlight.solvers import ETD1, RK4, Euler, Leapfrog, LinearTwoStep, Stormer, SymplecticEuler

TRACES = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) >= (2, 11)
pytestmark = pytest.mark.skipif(not TRACES, reason="compilers before torch 2.11 are not known to trace networks")

DIRECT = Direct()
SAME = 1e-5  # float32: graphs may sum in another order

Norm = partial(PreActivation, norm=nn.BatchNorm2d)
Group = partial(PreActivation, norm=GroupNorm2d)
Moving, Turning = partial(Symmetric, scale=0.3), partial(Antisymmetric, scale=0.3)


def net(stage, solver, gradient=DIRECT, controller=None):
    """Two stages of two layers, with BatchNorm between and behind."""
    stages = [stage(4, entry=None), stage(8, entry=Transition(4, 8))]
    return DepthNet(ConvStem(3, 4), stages, PoolHead(8, 5), solver=solver, gradient=gradient, controller=controller)


def layered(block):
    return partial(LayeredStage, block, depth=2)


def halves(velocity, force):
    return partial(PartitionedStage, velocity, force, depth=2)


KINDS = {
    "ResNet": lambda: net(layered(Norm), Euler()),
    "LM-ResNet": lambda: net(layered(Norm), LinearTwoStep(k=-0.05, learn=True)),
    "RevNet": lambda: net(halves(Norm, Norm), SymplecticEuler()),
    "RK4": lambda: net(layered(Group), RK4()),
    "MidPoint": lambda: net(layered(Turning), Leapfrog()),
    "Hamiltonian": lambda: net(halves(partial(Symmetric, scale=-0.3), Moving), SymplecticEuler()),
    "hyperbolic": lambda: net(layered(Moving), Stormer()),
    "parabolic": lambda: net(layered(Moving), Euler()),
    "semilinear": lambda: net(partial(SemilinearStage, ChannelDecay, Group, depth=2), ETD1()),
    "neural ODE": lambda: net(partial(ContinuousStage, ConcatConv), RK4(), controller=Constant(steps=2)),
}
RULES = {
    "RevNet, Reversible": lambda: net(halves(Norm, Norm), SymplecticEuler(), Reversible()),
    "MidPoint, Reversible": lambda: net(layered(Turning), Leapfrog(), Reversible()),
    "ResNet, Checkpoint": lambda: net(layered(Norm), Euler(), Checkpoint()),
}


def some(kinds, *quick):
    """The kinds by name; those that are not quick are slow."""
    return [pytest.param(kind, marks=[] if kind in quick else pytest.mark.slow) for kind in kinds]


@pytest.fixture
def graphs():
    torch.compiler.reset()
    counters.clear()
    return lambda: counters["stats"]["unique_graphs"]


def twins(make):
    """The same network twice."""
    nets = make(), make()
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def same_step(eager, graph, net, x):
    """A forward and a backward pass of both: outputs, gradients, and what BatchNorm has counted."""
    other = eager(x), graph(x)
    for y in other:
        y.square().sum().backward()
    torch.testing.assert_close(*other, rtol=SAME, atol=SAME)
    for (name, p), q in zip(eager.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=SAME, atol=SAME * float(p.grad.abs().max()), msg=name)
    for a, b in zip(eager.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("kind", some(KINDS, "ResNet", "MidPoint", "parabolic"))
def test_a_network_is_one_graph_in_training_and_one_in_evaluation(kind, graphs):
    eager, net = twins(KINDS[kind])
    graph, x = torch.compile(net, fullgraph=True, backend="aot_eager"), torch.randn(4, 3, 6, 6)
    same_step(eager, graph, net, x)
    assert graphs() == 1
    counts = {int(b) for name, b in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {1}
    eager.eval(), net.eval()
    with torch.no_grad():
        torch.testing.assert_close(eager(x), graph(x), rtol=SAME, atol=SAME)
    assert graphs() == 2


@pytest.mark.parametrize("kind", some(KINDS, "ResNet"))
def test_another_batch_size_is_compiled_once_more(kind, graphs):
    """For that size, and then for any."""
    eager, net = twins(KINDS[kind])
    graph = torch.compile(net, fullgraph=True, backend="eager")
    for batch in (17, 20, 33, 64, 50):  # convolutions of fewer than 16 images are another kernel
        x = torch.randn(batch, 3, 6, 6)
        torch.testing.assert_close(eager(x), graph(x), rtol=SAME, atol=SAME)
    assert graphs() == 2


@pytest.mark.parametrize("kind", some(RULES, "MidPoint, Reversible"))
def test_a_way_back_of_its_own_stands_between_graphs(kind, graphs):
    """No graph can hold it: `fullgraph` refuses and says what to do; else the solves run as they are."""
    eager, net = twins(RULES[kind])
    x = torch.randn(4, 3, 6, 6)
    with pytest.raises(Unsupported, match="use the gradient Direct, or leave out fullgraph"):
        torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    net.load_state_dict(eager.state_dict())
    same_step(eager, torch.compile(net, backend="aot_eager"), net, x)
    assert graphs() > 1
    torch.compiler.reset()
    counters.clear()
    with torch.no_grad():  # without gradients there is no way back
        torch.testing.assert_close(
            eager(x), torch.compile(net, fullgraph=True, backend="eager")(x), rtol=SAME, atol=SAME
        )
    assert graphs() == 1


@pytest.mark.parametrize("per", some(("batch", "sample"), "batch"))
def test_noise_is_drawn_between_graphs_and_is_the_same(per, graphs):
    """In training; in evaluation nothing is drawn, and the network is one graph."""
    noise = StochasticDepth(survival=0.3, per=per)
    stages = [LayeredStage(Norm, 4, depth=3)]
    net = DepthNet(ConvStem(3, 4), stages, PoolHead(4, 5), solver=Euler(), regularizers=[noise])
    x, found = torch.randn(4, 3, 6, 6), []
    for run in (net, torch.compile(net, backend="eager")):
        with keyed(Key(seed=2)):
            found.append(run(x))
    torch.testing.assert_close(*found, rtol=SAME, atol=SAME)
    net.eval()
    torch.compiler.reset()
    counters.clear()
    torch.testing.assert_close(net(x), torch.compile(net, fullgraph=True, backend="eager")(x), rtol=SAME, atol=SAME)
    assert graphs() == 1


@pytest.mark.slow
def test_the_graph_is_compiled_to_code_that_trains_alike(graphs):
    """By inductor, which needs a C++ compiler: losses of three steps."""
    eager, net = twins(KINDS["ResNet"])
    x, target = torch.randn(8, 3, 6, 6), torch.arange(8) % 5
    found = []
    for model, run in ((eager, eager), (net, torch.compile(net, fullgraph=True))):
        optimizer, losses = torch.optim.SGD(model.parameters(), 0.1), []
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(run(x), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        found.append(torch.stack(losses))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert graphs() == 1 and found[0][2] < found[0][0]
