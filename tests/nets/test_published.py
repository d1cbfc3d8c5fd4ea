"""Networks as published: numbers of parameters, exactly, as the layers have them and as papers round them."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import BatchNorm2d

from deqlight.errors import InputError
from deqlight.fields import Bottleneck, PreActivation
from deqlight.nets import (
    BottleneckTransition,
    Chain,
    ConvStem,
    DenseBlock,
    DenseTransition,
    DepthNet,
    LayeredStage,
    PartitionedStage,
    PartitionedTransition,
    PlainHead,
    PoolHead,
    PostActivation,
    PostActivationStem,
    Transition,
)
from deqlight.solvers import Euler, LinearTwoStep, SymplecticEuler


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


def rev(depth, widths, blocks, classes=10):
    """A RevNet of basic blocks: a stem, three stages of n coupled pairs of branches, a head."""

    def block(channels):
        return PreActivation(channels, BatchNorm2d)

    stages = [PartitionedStage(block, block, widths[0], blocks)]
    for before, width in pairwise(widths):
        entry = PartitionedTransition(before, width, BatchNorm2d)
        stages.append(PartitionedStage(block, block, width, blocks - 1, entry))
    return DepthNet(ConvStem(3, widths[0]), stages, PoolHead(widths[-1], classes), solver=SymplecticEuler())


def first_resnet(depth, shortcut="padding", classes=10):
    """6n + 2 layers, ReLU behind the sum."""
    n, widths = (depth - 2) // 6, (16, 32, 64)
    blocks = [PostActivation(16, 16, n)]
    blocks += [PostActivation(a, b, n, stride=2, shortcut=shortcut) for a, b in pairwise(widths)]
    return Chain(PostActivationStem(3, 16), blocks, PlainHead(64, classes))


def dense(depth, growth, bottleneck=4, classes=10):
    """A DenseNet-BC: three blocks, each transition halves the channels; without bottlenecks it keeps them."""
    layers, width, blocks = (depth - 4) // (6 if bottleneck else 3), 2 * growth if bottleneck else 16, []
    stem = ConvStem(3, width)
    for k in range(3):
        blocks.append(DenseBlock(width, growth, layers, bottleneck))
        width += growth * layers
        if k < 2:
            blocks.append(DenseTransition(width, width // 2 if bottleneck else width))
            width = width // 2 if bottleneck else width
    return Chain(stem, blocks, PoolHead(width, classes))


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


@pytest.mark.parametrize(
    ("depth", "exactly", "published"),
    [(20, 269_722, 0.27), (32, 464_154, 0.46), (44, 658_586, 0.66), (56, 853_018, 0.85), (110, 1_727_962, 1.7)],
)
def test_the_first_resnets(depth, exactly, published):
    """He et al., CVPR 2016, table 6: with shortcuts without parameters, as many as with the ReLU before the branch."""
    assert count(first_resnet(depth)) == exactly
    assert round(exactly / 1e6, 2 if exactly < 1e6 else 1) == published
    assert count(first_resnet(depth, "projection")) == exactly + 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize(
    ("depth", "widths", "blocks", "exactly", "published"),
    [(38, (32, 64, 112), 3, 464_858, 0.46), (110, (32, 64, 128), 9, 1_729_162, 1.73)],
)
def test_revnets(depth, widths, blocks, exactly, published):
    """Gomez et al. 2017, table 1, as many channels in each half as the layers have; counted one by one."""
    halves = [w // 2 for w in widths]
    same = sum(4 * blocks * 9 * h * h for h in halves)  # two convolutions in each of two branches
    changed = sum(9 * (a * b - b * b) for a, b in pairwise(halves))  # the first of them, where the width changes
    norms = sum(4 * blocks * 2 * h for h in halves) - sum(2 * (b - a) for a, b in pairwise(halves))
    ends = 27 * widths[0] + 2 * widths[-1] + 10 * (widths[-1] + 1)
    found = count(rev(depth, widths, blocks))
    assert found == same + changed + norms + ends == exactly and round(found / 1e6, 2) == published


@pytest.mark.parametrize(
    ("depth", "growth", "bottleneck", "published"),
    [(100, 12, 4, 0.8), (250, 24, 4, 15.3), (190, 40, 4, 25.6), (40, 12, 0, 1.0), (100, 12, 0, 7.0)],
)
def test_densenets(depth, growth, bottleneck, published):
    """Huang et al. 2017, table 2."""
    assert round(count(dense(depth, growth, bottleneck)) / 1e6, 1) == published


def test_the_smallest_densenet_exactly():
    assert count(dense(100, 12)) == 769_162 and count(dense(100, 12, classes=100)) == 769_162 + 90 * 343


def test_blocks_of_the_first_resnet_project_what_euler_gives():
    """ReLU(u + f(u)): Euler's step where that is positive, and zero elsewhere; the first block changes the features."""
    block, x = PostActivation(4, 4, 2).eval(), torch.rand(2, 4, 6, 6)
    u = x
    for branch in block.branches:
        step = u + branch(u)
        u = torch.where(step > 0, step, 0.0)
    assert torch.equal(block(x), u)
    changed, x = PostActivation(4, 8, 1, stride=2).eval(), torch.rand(2, 4, 6, 6)
    by = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 4, 3, 3)], 1)
    assert torch.equal(changed(x), torch.relu(by + changed.branches[0](x)))


def test_dense_layers_see_all_before_them_and_keep_it():
    block, x = DenseBlock(4, 3, 2).eval(), torch.rand(2, 4, 6, 6)
    first = torch.cat([x, block.layers[0](x)], 1)
    assert torch.equal(block(x), torch.cat([first, block.layers[1](first)], 1)) and torch.equal(block(x)[:, :4], x)


def test_where_a_revnet_changes_its_features_both_halves_are_coupled():
    entry, x = PartitionedTransition(4, 6).eval(), torch.rand(2, 4, 6, 6)
    q, p = x.chunk(2, 1)
    q = entry.shortcut(q) + entry.velocity(p)
    assert torch.equal(entry(x), torch.cat([q, entry.shortcut(p) + entry.force(q)], 1)) and entry(x).shape == (
        2,
        6,
        3,
        3,
    )


MADE = {
    "resnet": lambda: basic(20),
    "bottlenecks": lambda: bottlenecks(29),
    "resnext": lambda: bottlenecks(29, groups=4),
    "revnet": lambda: rev(38, (32, 64, 112), 3),
    "first resnet": lambda: first_resnet(20),
    "first resnet, projections": lambda: first_resnet(20, "projection"),
    "densenet": lambda: dense(22, 12),
    "densenet without bottlenecks": lambda: dense(13, 8, 0),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
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
    for make in (lambda: PostActivation(4, 4, 0), lambda: DenseBlock(4, 0, 2), lambda: Chain(None, [], None)):
        with pytest.raises(InputError, match="at least one"):
            make()
    with pytest.raises(InputError, match="both must be even"):
        PartitionedTransition(4, 7)
