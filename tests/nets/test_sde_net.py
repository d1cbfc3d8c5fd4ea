"""SDE-Net: its formula, by hand, and what depends on what."""

import pytest
import torch
from torch import nn

from deqlight import record
from deqlight.brownian import Key, keyed, next_stream
from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP, ConcatConv
from deqlight.gradients import Checkpoint
from deqlight.nets import ConvHead, ConvStem, NormHead, Perceptron, PoolHead, SDENet
from deqlight.solvers import Dopri5, Euler, Heun, Verlet

SIZES = {"time": 6.0, "steps": 6, "sigma": 20.0, "sigma_test": 500.0, "draws": 4}


def net(**options):
    torch.manual_seed(0)
    parts = [Perceptron(2, 5, hidden=8), MLP, Perceptron(5, 1, hidden=8), NormHead(5, 3)]
    return SDENet(*parts, 5, **{"solver": Euler(), **SIZES, **options})


def by_hand(net, x, sigma, draws, key):
    """The loop of the paper's algorithm: g once, at the start; six steps of length 1."""
    x0 = net.stem(x)
    g = torch.sigmoid(net.diffusion(x0))
    found = []
    for draw in range(draws):
        with keyed(Key(key.seed, key.step, key.ids, draw)):
            noise = next_stream().normal(6, x0)  # (batch, steps, channels)
        y = x0
        for k in range(6):
            y = y + net.drift.field(float(k), y) + sigma * g * noise[:, k]
        found.append(net.head(y))
    return torch.stack(found)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_it_is_the_paper_s_loop(double, training):
    model, x, key = net().train(training), torch.randn(7, 2), Key(seed=3, step=2, ids=torch.arange(7) * 5)
    sigma, draws = (20.0, 1) if training else (500.0, 4)
    with keyed(key):
        passes = model.passes(x)
    expected = by_hand(model, x, sigma, draws, key)
    assert passes.shape == (draws, 7, 3)
    assert torch.allclose(passes, expected, rtol=1e-10)


def test_without_noise_it_is_a_residual_network(double):
    model, x = net(sigma=0.0, sigma_test=0.0).eval(), torch.randn(7, 2)
    passes = model.passes(x)
    assert torch.equal(passes[0], passes[3])


def test_the_drift_alone_is_evaluated_at_each_step():
    model = net().eval()
    calls = []
    model.diffusion.register_forward_hook(lambda *_: calls.append(1))
    with record() as solves:
        model(torch.randn(7, 2))
    assert [stats.nfe.tolist() for stats in solves] == [[6] * 7] * 4
    assert len(calls) == 1


def test_a_gradient_reaches_everything_and_each_rule_gives_it(double):
    x, found = torch.randn(7, 2), []
    for options in ({}, {"gradient": Checkpoint(budget=2)}):
        model = net(sigma=1.0, **options)
        with keyed(Key(seed=1)):
            model(x).square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(grad is not None and grad.abs().max() > 0 for grad in found[0])
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-12) for a, b in zip(*found, strict=True))


def test_images():
    stem, drift, diffusion, head = (
        ConvStem(1, 8),
        ConcatConv,
        ConvHead(8, 1),
        PoolHead(8, 10, lambda c: nn.GroupNorm(1, c)),
    )
    model = SDENet(stem, drift, diffusion, head, 8, solver=Heun(), **SIZES)
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"draws": 0}, "draws=0"),
        ({"sigma": -1.0}, "sigma=-1.0"),
        ({"sigma_test": float("nan")}, "sigma_test=nan"),
        ({"time": 0.0}, "time=0.0"),
        ({"steps": 0}, "steps"),
        ({"solver": Verlet()}, "Verlet"),
        ({"solver": Dopri5()}, "Dopri5"),
    ],
)
def test_what_cannot_be(options, told):
    with pytest.raises(InputError, match=told):
        net(**options)


def test_parts_of_other_shapes():
    model = net()
    model.diffusion = nn.Linear(5, 2)
    with pytest.raises(ShapeError, match=r"\(7, 2\) from its diffusion; it needs \(7, 1\)"):
        model(torch.randn(7, 2))
    model.stem = nn.Linear(2, 4)
    with pytest.raises(ShapeError, match="SDENet of 5 channels"):
        model(torch.randn(7, 2))
