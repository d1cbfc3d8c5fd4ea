"""Networks as published: numbers of parameters, exactly, as the layers have them and as papers round them."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import BatchNorm2d

from deqlight.errors import InputError
from deqlight.fields import Bottleneck, PreActivation
from deqlight.nets import BottleneckTransition, ConvStem, DepthNet, LayeredStage, PoolHead, Transition
from deqlight.solvers import Euler, LinearTwoStep


def basic(depth, solver=None, shortcut="padding", classes=10):
    """6n + 2 layers: a stem, three stages of n blocks of two, a head; the first block of a stage leads into it."""
    n, widths = (depth - 2) // 6, (16, 32, 64)

    def block(channels):
        return PreActivation(channels, BatchNorm2d)

    stages = [LayeredStage(block, 16, n)]
    for before, width in pairwise(widths):
        stages.append(LayeredStage(block, width, n - 1, Transition(before, width, BatchNorm2d, shortcut=shortcut)))
    return DepthNet(ConvStem(3, 16), stages, PoolHead(64, classes, BatchNorm2d), solver=solver or Euler())


def bottlenecks(depth, stem=16, widths=(64, 128, 256), middle=None, groups=1, solver=None, classes=10):
    """9n + 2 layers: a stem, three stages of n blocks of three, a head."""
    n, stages = (depth - 2) // 9, []
    for k, (before, width) in enumerate(zip((stem, *widths), widths, strict=False)):
        inner = None if middle is None else middle * 2**k
        entry = BottleneckTransition(before, width, BatchNorm2d, 1 if k == 0 else 2, inner, groups)

        def block(channels, inner=inner):
            return Bottleneck(channels, BatchNorm2d, inner, groups)

        stages.append(LayeredStage(block, width, n - 1, entry))
    return DepthNet(ConvStem(3, stem), stages, PoolHead(widths[-1], classes, BatchNorm2d), solver=solver or Euler())


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("depth", "exactly", "published"),
    [(20, 269_722, 0.27), (32, 464_154, 0.46), (44, 658_586, 0.66), (56, 853_018, 0.85), (110, 1_727_962, 1.7)],
)
def test_basic_resnets(depth, exactly, published):
    """He et al. 2016, table 6; the formula counts convolutions, norms and the head one by one."""
    n = (depth - 2) // 6
    convolutions = 27 * 16 + 9 * (2 * n * (16**2 + 32**2 + 64**2) - (32**2 + 64**2) + 16 * 32 + 32 * 64)
    norms = 2 * (2 * n * (16 + 32 + 64) - (32 + 64) + (16 + 32) + 64)
    assert count(basic(depth)) == convolutions + norms + 650 == exactly
    assert round(exactly / 1e6, 2 if exactly < 1e6 else 1) == published
    assert count(basic(depth, shortcut="projection")) == exactly + 16 * 32 + 32 * 64


@pytest.mark.parametrize(("depth", "exactly", "published"), [(20, 269_726, 0.27), (56, 853_040, 0.85)])
def test_linear_two_step_resnets(depth, exactly, published):
    """A k for each layer that has a past: all but the first of a stage (Lu et al. 2018)."""
    n = (depth - 2) // 6
    learnt = (n - 1) + 2 * (n - 2)
    assert count(basic(depth, LinearTwoStep(learn=True))) == count(basic(depth)) + learnt == exactly
    assert round(exactly / 1e6, 2) == published


def test_bottleneck_resnets():
    """Pre-activation ResNet-164 has 1.7 M parameters (He et al., ECCV 2016)."""
    assert count(bottlenecks(164)) == 1_703_258
    assert count(bottlenecks(164, classes=100)) == 1_703_258 + 90 * 257


def test_resnext():
    """ResNeXt-29, 8×64d, has 34.4 M parameters (Xie et al. 2017, table 7)."""
    assert round(count(bottlenecks(29, 64, (256, 512, 1024), 512, 8)) / 1e6, 1) == 34.4


@pytest.mark.parametrize("make", [lambda: basic(20), lambda: bottlenecks(29), lambda: bottlenecks(29, groups=4)])
def test_they_learn_an_image(make):
    torch.manual_seed(0)
    net, images = make(), torch.randn(4, 3, 32, 32)
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.05), []
    for _ in range(3):
        losses.append(nn.functional.cross_entropy(net(images), torch.arange(4)))
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
    assert losses[2] < losses[0]


def test_padding_takes_every_other_pixel_and_adds_zeros():
    x = torch.randn(2, 3, 5, 6)
    found = Transition(3, 8, BatchNorm2d, shortcut="padding").shortcut(x)
    assert torch.equal(found[:, :3], x[:, :, ::2, ::2]) and not found[:, 3:].any() and found.shape == (2, 8, 3, 3)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="projection, padding"):
        Transition(3, 8, shortcut="identity")
    with pytest.raises(InputError, match="padding adds channels"):
        BottleneckTransition(8, 4, shortcut="padding")
    with pytest.raises(InputError, match="divide the width"):
        Bottleneck(16, width=6, groups=4)
