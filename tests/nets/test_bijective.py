"""Networks that lose nothing: from the features back to the image."""

import pytest
import torch

from deqlight.controllers import Constant
from deqlight.errors import InputError, ShapeError
from deqlight.fields import PreActivation, Symmetric
from deqlight.nets import (
    Augment,
    ConvStem,
    DepthNet,
    LayeredStage,
    PartitionedStage,
    PoolHead,
    Unshuffle,
    Widen,
    undo,
)
from deqlight.solvers import Euler, Leapfrog, Ruth3, SymplecticEuler, Verlet


def network(solver, depth=6, controller=None):
    """An i-RevNet: pixels become channels, and nothing else changes size or width."""

    def block(channels):
        return Symmetric(channels, 0.3, "tanh")

    stages = [
        PartitionedStage(block, block, 8, depth),
        PartitionedStage(block, block, 32, depth, Unshuffle(2)),
        PartitionedStage(block, block, 128, 2, Unshuffle(2)),
    ]
    return DepthNet(Widen(3, 8), stages, PoolHead(128, 10), solver=solver, controller=controller)


@pytest.mark.parametrize("solver", [SymplecticEuler(), Verlet(), Ruth3()], ids=repr)
@pytest.mark.parametrize("controller", [None, Constant(steps=2)], ids=["layers", "finer"])
def test_the_image_is_read_again_from_the_features(double, solver, controller):
    torch.manual_seed(0)
    net, x = network(solver, controller=controller).eval(), torch.rand(2, 3, 8, 8)
    features = net.features(x)
    assert features.shape == (2, 128, 2, 2)
    assert torch.allclose(undo(net, features), x, atol=1e-9)
    assert not torch.allclose(undo(net, features + 0.1), x, atol=1e-3)


def test_two_hundred_layers_are_undone(double):
    """Within 1e-13 a layer: three stages, with fields that keep the scale of what they move."""
    torch.manual_seed(0)

    def half(sign):
        return lambda channels: Symmetric(channels, sign * 0.2, "tanh")

    stages = [
        PartitionedStage(half(-1), half(1), 4, 100),
        PartitionedStage(half(-1), half(1), 16, 100, Unshuffle(2)),
    ]
    net = DepthNet(Widen(3, 4), stages, PoolHead(16, 10), solver=SymplecticEuler()).eval()
    x = torch.rand(2, 3, 8, 8)
    assert float((undo(net, net.features(x)) - x).abs().max()) < 1e-13 * 200


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_unshuffling_keeps_every_pixel(factor):
    x = torch.arange(2.0 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    y = Unshuffle(factor)(x)
    assert y.shape == (2, 3 * factor**2, 8 // factor, 8 // factor)
    assert torch.equal(Unshuffle(factor).undo(y), x) and torch.equal(y.flatten().sort().values, x.flatten())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": ConvStem(3, 8)}, "the stem ConvStem, which cannot be undone; use Unshuffle or Widen"),
        ({"solver": Euler()}, "the solver Euler; it needs a one-step method that can be undone"),
        ({"solver": Leapfrog()}, "the solver Leapfrog; it needs a one-step method"),
        ({"lift": Augment(1)}, "the lift Augment"),
    ],
)
def test_what_cannot_be_undone_is_named(change, message):
    if "solver" in change:
        stage, solver = LayeredStage(PreActivation, 8, 1), change["solver"]
    else:
        stage, solver = PartitionedStage(PreActivation, PreActivation, 8, 1), SymplecticEuler()
    net = DepthNet(change.get("stem", Widen(3, 8)), [stage], PoolHead(8, 10), solver=solver)
    stage.lift = change.get("lift", stage.lift)
    with pytest.raises(InputError, match=message):
        undo(net, torch.rand(1, 8, 4, 4))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="2 must divide their sides"):
        Unshuffle(2)(torch.rand(1, 3, 5, 4))
    with pytest.raises(ShapeError, match="in_channels is 3"):
        Widen(3, 8)(torch.rand(1, 1, 4, 4))
    with pytest.raises(InputError, match="it adds channels"):
        Widen(3, 2)
    with pytest.raises(InputError, match="at least 1"):
        Unshuffle(0)
