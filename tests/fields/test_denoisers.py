"""Networks that estimate noise, in use: gradients, graphs, processes, precisions, memory formats, solves, training."""

import copy
import math
import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from sklearn.datasets import load_digits
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from deqlight import ODETerm, solve
from deqlight.brownian import Key, keyed
from deqlight.cli.start import import_choices
from deqlight.controllers import PID
from deqlight.errors import InputError, ShapeError
from deqlight.fields import DenoisingMLP, FourierFeatures, UNet
from deqlight.solvers import RK4, Dopri5

SAME = 1e-5  # float32: graphs and formats may sum in another order
HALF = 0.05  # bfloat16 keeps eight bits, and some twenty layers follow each other

KINDS = {
    "UNet": (lambda **options: UNet(2, 16, (1, 2), 1, (2,), groups=4, heads=2, **options), (2, 8, 8)),
    "DenoisingMLP": (lambda **options: DenoisingMLP(2, 16, 2, **options), (2,)),
}
CLASSES = {"none": {}, "three": {"classes": 3}, "hidden": {"classes": 3, "label_drop": 0.5}}


@torch.no_grad()
def stirred(net):
    for p in net.parameters():
        p.copy_(torch.randn_like(p) / p[0].numel() ** 0.5 if p.dim() > 1 else p + 0.3 * torch.randn_like(p))
    return net


@pytest.fixture(params=list(KINDS))
def kind(request):
    return KINDS[request.param]


def batch(shape, n=4):
    return torch.rand(n), torch.randn(n, *shape), torch.arange(n) % 3


@pytest.mark.parametrize("options", CLASSES.values(), ids=list(CLASSES))
def test_gradients_reach_all_parameters(kind, options):
    make, shape = kind
    net, (t, y, labels) = stirred(make(features=FourierFeatures, **options)), batch(shape, 8)
    net(t, y, labels if options else None).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("options", CLASSES.values(), ids=list(CLASSES))
def test_no_process_waits_for_a_parameter_that_is_not_used(kind, options, told, tmp_path):
    """A second pass raises where the first left parameters out, even with one process."""
    make, shape = kind
    t, y, labels = batch(shape)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(make(**options))
        for _ in range(2):
            net(t, y, labels if told and options else None).square().sum().backward()
        del net  # what it shares with the group must go first: the group waits for its threads, and they for Python
    finally:
        torch.distributed.destroy_process_group()


GRAPHS = [
    pytest.param(kind, told, marks=[pytest.mark.slow] if kind == "UNet" and told != "hidden" else [])
    for kind in KINDS
    for told in CLASSES
]


@pytest.mark.parametrize(("kind", "told"), GRAPHS)
def test_it_is_one_graph_with_the_same_draws(kind, told):
    (make, shape), options = KINDS[kind], CLASSES[told]
    net, (t, y, labels) = stirred(make(**options)), batch(shape, 16)
    labels = labels if options else None
    torch.compiler.reset()
    counters.clear()
    graph = torch.compile(net, fullgraph=True, backend="aot_eager")
    results = []
    for step in range(3):
        grads = []
        for call in (net, graph):
            with keyed(Key(5, step)):
                result = call(t, y, labels)
            result.square().sum().backward()
            grads.append([p.grad.clone() for p in net.parameters()])
            net.zero_grad()
            results.append(result.detach())
        assert torch.allclose(*results[-2:], rtol=SAME, atol=SAME)
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(*grads, strict=True))
    assert torch.allclose(results[1], results[3], atol=SAME) == (not options.get("label_drop"))
    assert counters["stats"]["unique_graphs"] == 1


def test_two_passes_in_one_graph_draw_apart():
    net, (t, y, labels) = stirred(DenoisingMLP(2, 16, 2, classes=3, label_drop=0.5)), batch((2,), 32)
    graph = torch.compile(lambda: (net(t, y, labels), net(t, y, labels)), fullgraph=True, backend="aot_eager")
    with keyed(Key(0)):
        one, other = graph()
    with keyed(Key(0)):
        assert torch.allclose(one, net(t, y, labels), atol=SAME) and torch.allclose(other, net(t, y, labels), atol=SAME)
    assert not torch.allclose(one, other, atol=SAME)


def test_all_ways_to_say_the_label_of_noise_compile():
    net, (_, y, _) = stirred(DenoisingMLP(2, 16, 2)).eval(), batch((2,))
    graph = torch.compile(net, fullgraph=True, backend="aot_eager")
    for t in (0.3, 0.4, torch.tensor(0.3), torch.rand(4), torch.rand(4, 1)):
        assert torch.allclose(graph(t, y), net(t, y), rtol=SAME, atol=SAME)


def test_half_precision(kind):
    make, shape = kind
    net, (t, y, labels) = stirred(make(classes=3)), batch(shape)
    exact = net(t, y, labels)
    with torch.autocast("cpu", torch.bfloat16):
        result = net(t, y, labels)
        result.square().mean().backward()
    assert result.dtype == torch.float32  # that of the images: a solver adds it to them
    assert (result - exact).norm() < HALF * exact.norm()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    halved = copy.deepcopy(net).bfloat16()(t, y.bfloat16(), labels)
    assert halved.dtype == torch.bfloat16 and (halved - exact).norm() < HALF * exact.norm()


def test_channels_last():
    net, (t, y, labels) = stirred(KINDS["UNet"][0](classes=3)), batch(KINDS["UNet"][1])
    exact = net(t, y, labels)
    result = net.to(memory_format=torch.channels_last)(t, y.to(memory_format=torch.channels_last), labels)
    assert torch.allclose(result, exact, rtol=SAME, atol=SAME)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("solver", "controller"), [(RK4(), None), (Dopri5(), PID(rtol=1e-3, atol=1e-3))], ids=repr)
def test_it_is_a_field(kind, solver, controller):
    make, shape = kind
    net, (_, y, _) = stirred(make()).eval(), batch(shape)
    with torch.no_grad():
        y1 = solve(ODETerm(net), y, [0.0, 0.1], solver=solver, controller=controller).y1
    assert y1.shape == y.shape and not torch.allclose(y1, y)


def test_dropout_is_in_training_alone():
    net, (t, y, _) = stirred(KINDS["UNet"][0](dropout=0.5)), batch(KINDS["UNet"][1])
    assert not torch.allclose(net(t, y), net(t, y), atol=SAME)
    net.eval()
    assert torch.equal(net(t, y), net(t, y))


def noise_loss(net, images, labels=None):
    """Of the noise in √(1 − σ²) x + σ ε, σ = sin(π t / 2); 1 for a network that always says zero."""
    t, noise = torch.rand(len(images)), torch.randn_like(images)
    shape = (-1, *[1] * (images.dim() - 1))
    alpha, sigma = (f(math.pi / 2 * t).reshape(shape) for f in (torch.cos, torch.sin))
    return (net(t, alpha * images + sigma * noise, labels) - noise).square().mean()


def trained(net, data, steps, labels=None, rate=2e-3):
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for step in range(steps):
        picked = torch.randint(len(data), (64,))
        with keyed(Key(0, step, picked)):
            loss = noise_loss(net, data[picked], None if labels is None else labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def test_a_unet_learns_the_noise_of_digits():
    """On digits that it has not seen; before training it says zero, whose loss is 1."""
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8.0 - 1.0
    net = UNet(1, 8, (1, 2), 1, (2,), groups=4)
    with torch.no_grad():
        assert noise_loss(net, images) == pytest.approx(1.0, abs=0.02)
        trained_net = torch.enable_grad()(trained)(net, images[:1500], 200, rate=5e-3)
        assert noise_loss(trained_net, images[1500:]) < 0.35


def test_a_perceptron_learns_where_the_classes_are():
    """Three points: told the class, the noise is known for sure; told none, only as well as the class shows."""
    labels = torch.arange(300) % 3
    points = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])[labels]
    net = trained(DenoisingMLP(2, 64, 2, classes=3, label_drop=0.2), points, 500, labels)
    with torch.no_grad():
        told, bare = noise_loss(net, points, labels), noise_loss(net, points)
    assert told < 0.1 and told < 0.6 * bare and bare < 0.5


def test_a_perceptron_has_as_many_parameters_as_described():
    def linear(a, b):
        return (a + 1) * b

    h, layers = 12, 3
    layer = 2 * h + linear(h, 2 * h) + 2 * linear(h, h)
    wanted = 2 * linear(h, h) + linear(2, h) + layers * layer + linear(h, 2)
    assert sum(p.numel() for p in DenoisingMLP(2, h, layers).parameters()) == wanted
    assert sum(p.numel() for p in DenoisingMLP(2, h, layers, classes=5).parameters()) == wanted + 5 * h


def test_a_perceptron_says_zero_before_training():
    net, y = DenoisingMLP(3, 16), torch.randn(4, 3)
    assert torch.equal(net(0.5, y), torch.zeros(4, 3))
    layer, x = net.layers[0], torch.randn(4, 16)
    assert torch.equal(layer(x, torch.randn(4, 16)), x)


def test_copies_of_a_perceptron_are_the_same():
    net, (t, y, labels) = stirred(DenoisingMLP(2, 16, classes=3, features=FourierFeatures)), batch((2,))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(t, y, labels), net(t, y, labels))


@pytest.mark.parametrize("name", list(KINDS))
def test_configs_reach_it_by_its_short_name(name):
    import_choices()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    features = {"class_path": "FourierFeatures", "init_args": {"scale": 2.0}}
    options = {"channels": 3, "classes": 5, "label_drop": 0.1, "features": features}
    net = parser.instantiate(parser.parse_object({"net": {"class_path": name, "init_args": options}})).net
    assert type(net) is type(KINDS[name][0]()) and net.condition.classes == 5
    assert isinstance(net.condition.time.features, FourierFeatures)


def test_what_cannot_be_is_refused():
    for options in (
        {"channels": 0},
        {"channels": 2, "hidden": 5},
        {"channels": 2, "hidden": 2},
        {"channels": 2, "depth": 0},
    ):
        with pytest.raises(InputError, match="DenoisingMLP got"):
            DenoisingMLP(**options)
    net, y = DenoisingMLP(2, 16), torch.rand(4, 2)
    for state in (torch.rand(4, 3), y[..., None], (y, y)):
        with pytest.raises(ShapeError, match=r"it needs vectors, \(batch, 2\)"):
            net(0.0, state)
    with pytest.raises(ShapeError, match="3 noise labels for 4 samples"):
        net(torch.rand(3), y)
