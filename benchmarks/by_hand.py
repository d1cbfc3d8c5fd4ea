"""Residual networks as anyone would write them, with nothing of deqlight in them, beside deqlight's own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from deqlight.fields import PreActivation
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead, Transition
from deqlight.solvers import Euler

__all__ = ["ResNet", "copied", "resnet"]

WIDTHS, CLASSES = (16, 32, 64), 10
SAME = 1e-5
"""How far outputs of two networks of the same weights may be apart, relatively to the largest (float32)."""


def conv(channels: int, out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for its stride."""
    return nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """A pre-activation block of two convolutions; where the width changes, with a stride and a projection beside it."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(out)
        self.conv1, self.conv2 = conv(channels, out, 3, 1 if channels == out else 2), conv(out, out, 3)
        self.shortcut = None if channels == out else conv(channels, out, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(x))
        beside = x if self.shortcut is None else self.shortcut(y)
        return beside + self.conv2(F.relu(self.norm2(self.conv1(y))))


class ResNet(nn.Module):
    """The 6n + 2 network for small images, with pre-activation (He et al., ECCV 2016)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        n = (depth - 2) // 6
        widths = [width for width in WIDTHS for _ in range(n)]
        self.stem = conv(3, WIDTHS[0], 3)
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise([WIDTHS[0], *widths])))
        self.norm, self.linear = nn.BatchNorm2d(WIDTHS[-1]), nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x))
        return self.linear(F.relu(self.norm(x)).mean((2, 3)))


def resnet(depth: int) -> DepthNet:
    """The same network as an equation by Euler's method; the first block of a stage leads into it."""
    n = (depth - 2) // 6
    stages = [LayeredStage(PreActivation, WIDTHS[0], n)]
    for before, width in pairwise(WIDTHS):
        stages.append(LayeredStage(PreActivation, width, n - 1, Transition(before, width)))
    return DepthNet(ConvStem(3, WIDTHS[0]), stages, PoolHead(WIDTHS[-1], CLASSES), solver=Euler())


def copied(net: DepthNet) -> ResNet:
    """The network by hand with the weights of `net`; both give the same."""
    depth = 2 + 2 * sum(len(stage.term.layers) + isinstance(stage.entry, Transition) for stage in net.stages)
    by_hand = ResNet(depth)
    for own, other in zip(_modules(net), _by_hand(by_hand), strict=True):
        other.load_state_dict(own.state_dict())
    with torch.no_grad():
        x = torch.randn(2, 3, 16, 16)
        ours, theirs = net.eval()(x), by_hand.eval()(x)
    if (ours - theirs).abs().max() > SAME * theirs.abs().max():
        raise SystemExit("the network by hand is another one: its outputs differ")
    net.train()
    return cast(ResNet, by_hand.train())


def _modules(net: DepthNet) -> Iterator[nn.Module]:
    """The parts of a network in the order of the network by hand: stem, blocks, norm, linear layer."""
    yield net.stem.conv
    for stage in net.stages:
        if isinstance(stage.entry, Transition):
            yield stage.entry
        for layer in stage.term.layers:
            yield layer.field
    yield from (net.head.norm, net.head.linear)


def _by_hand(net: ResNet) -> Iterator[nn.Module]:
    yield from (net.stem, *net.blocks, net.norm, net.linear)
