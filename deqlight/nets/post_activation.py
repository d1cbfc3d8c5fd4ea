"""Station: the first residual network, whose ReLU stands behind the sum: Euler's step, and then a projection."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..fields.conv import conv3x3
from ..types import Tensor
from .parts import ConvStem
from .transition import Shortcut, shortcut_by

__all__ = ["PlainHead", "PostActivation", "PostActivationStem"]

Norm = Callable[[int], nn.Module]


class PostActivation(nn.Module):
    """Blocks u₊ = ReLU(s(u) + f(u)), f = norm, convolution, ReLU, convolution, norm as first published: ResNet v1.

    No step of an ordinary equation: what ReLU takes off behind the sum does not become small with f. It is Euler's step
    and then the projection onto what is not negative, so that a deep limit would be the sweeping process
    du/dt ∈ f(u) − N(u), N the normal cone there, and other integrators of du/dt = f have no place in it.

    Args:
        in_channels: channels of the input.
        channels: channels of the result.
        depth: number of blocks; the first changes size and width.
        norm: makes a normalisation layer for a number of channels.
        stride: by how much height and width shrink in the first block.
        shortcut: how features pass by the first block where size or width change: `projection` or `padding`.

    Raises:
        InputError: without blocks, for another shortcut, and for a padding that would make fewer channels.

    Reference: He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        norm: Norm = nn.BatchNorm2d,
        stride: int = 1,
        shortcut: Shortcut = "padding",
    ) -> None:
        super().__init__()
        if depth < 1:
            raise InputError(f"PostActivation got depth={depth}; it needs at least one block")
        self.branches = nn.ModuleList(
            _branch(in_channels if n == 0 else channels, channels, norm, stride if n == 0 else 1) for n in range(depth)
        )
        same = in_channels == channels and stride == 1
        by = shortcut_by("PostActivation", shortcut, in_channels, channels, stride)
        self.shortcut = nn.Identity() if same else nn.Sequential(by, norm(channels)) if shortcut == "projection" else by

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height / stride, width / stride)` of `(batch, in_channels, height, width)`."""
        for n, branch in enumerate(self.branches):
            x = F.relu((self.shortcut(x) if n == 0 else x) + branch(x))
        return x


class PostActivationStem(nn.Module):
    """A 3×3 convolution, norm and ReLU: `PostActivation` takes features that are not negative.

    Args:
        in_channels: channels of the images.
        channels: channels of the features.
        norm: makes a normalisation layer for a number of channels.
    """

    def __init__(self, in_channels: int, channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = ConvStem(in_channels, channels), norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height, width)` of images `(batch, in_channels, height, width)`."""
        return F.relu(self.norm(self.conv(x)))


class PlainHead(nn.Module):
    """The mean over all places and a linear layer, without norm and ReLU, which the last block has had.

    Args:
        channels: channels of the features.
        classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(batch, classes)` of features `(batch, channels, height, width)`."""
        return self.linear(torch.mean(x, (2, 3)))  # type: ignore[no-any-return]  # a module's call is untyped


def _branch(in_channels: int, channels: int, norm: Norm, stride: int) -> nn.Sequential:
    first, second = conv3x3(in_channels, channels, stride), conv3x3(channels, channels)
    return nn.Sequential(first, norm(channels), nn.ReLU(), second, norm(channels))
