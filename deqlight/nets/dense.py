"""Station: the densely connected network: each layer sees all before it, and the state grows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..fields.conv import conv3x3
from ..types import Tensor

__all__ = ["DenseBlock", "DenseTransition"]

Norm = Callable[[int], nn.Module]


class DenseBlock(nn.Module):
    """Layers u₊ = [u, f(u)], each of which adds `growth` channels to what all later ones see: a block of a DenseNet-BC.

    f is norm, ReLU, a 1×1 convolution to `bottleneck · growth` channels, norm, ReLU and a 3×3 convolution. No step of
    an equation on one state: the state has other channels at every layer. Multistep methods remember earlier slopes as
    this does, and weigh them by numbers, where here each next layer has weights of its own for them.

    Args:
        in_channels: channels of the input.
        growth: channels that a layer adds.
        depth: number of layers.
        bottleneck: how many times wider than `growth` the middle of a layer is; 0 has none, as in a plain DenseNet.
        norm: makes a normalisation layer for a number of channels.

    Raises:
        InputError: without layers or growth.

    Reference: Huang, Liu, van der Maaten & Weinberger, CVPR 2017 (arXiv 1608.06993); read as a multistep method by
    Zhu, Chang & Fu 2018 (arXiv 1802.08831).
    """

    def __init__(
        self, in_channels: int, growth: int, depth: int, bottleneck: int = 4, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        if depth < 1 or growth < 1 or bottleneck < 0:
            raise InputError(
                f"DenseBlock got growth={growth}, depth={depth}, bottleneck={bottleneck}; it needs at least one layer "
                "that adds a channel, and no negative bottleneck"
            )
        widths = [in_channels + n * growth for n in range(depth)]
        self.layers = nn.ModuleList(_layer(width, growth, bottleneck * growth, norm) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, in_channels + depth · growth, height, width)` of `(batch, in_channels, height, width)`."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseTransition(nn.Module):
    """Norm, ReLU, a 1×1 convolution and the mean of 2×2 pixels: half the size, and fewer channels.

    Args:
        in_channels: channels of the input.
        channels: channels of the result; a DenseNet-BC halves them.
        norm: makes a normalisation layer for a number of channels.
    """

    def __init__(self, in_channels: int, channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm, self.conv = norm(in_channels), _conv1x1(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height / 2, width / 2)` of `(batch, in_channels, height, width)`."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


def _layer(in_channels: int, growth: int, middle: int, norm: Norm) -> nn.Sequential:
    if not middle:
        return nn.Sequential(norm(in_channels), nn.ReLU(), conv3x3(in_channels, growth))
    narrow = (norm(in_channels), nn.ReLU(), _conv1x1(in_channels, middle))
    return nn.Sequential(*narrow, norm(middle), nn.ReLU(), conv3x3(middle, growth))


def _conv1x1(in_channels: int, channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
