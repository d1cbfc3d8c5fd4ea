"""Station: between the stages: where size and width of the features change, which is no step of an equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, check_word
from ..fields.conv import bottleneck, conv3x3
from ..types import Tensor

__all__ = ["BottleneckTransition", "Padding", "PartitionedTransition", "Shortcut", "Transition", "shortcut_by"]

Norm = Callable[[int], nn.Module]

Shortcut: TypeAlias = Literal["projection", "padding"]
"""How features pass by a block that changes them: by a 1×1 convolution, or as they are."""


class Transition(nn.Module):
    """The block where size and width change, no step of an equation: a residual block around a projection.

    Norm and ReLU are shared by the branch and the shortcut, which is a 1×1 convolution, or takes every other pixel and
    adds channels of zeros, with no parameters: as `projection` and `padding`, options B and A of the paper.

    Args:
        in_channels: channels of the input.
        channels: channels of the result.
        norm: makes a normalisation layer for a number of channels.
        stride: by how much height and width shrink.
        shortcut: `projection` or `padding`.

    Raises:
        InputError: for another shortcut, and for a padding that would make fewer channels.

    Reference: He, Zhang, Ren & Sun, CVPR 2016 (arXiv 1512.03385), §4.1; pre-activation, arXiv 1603.05027.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        norm: Norm = nn.BatchNorm2d,
        stride: int = 2,
        shortcut: Shortcut = "projection",
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(channels)
        self.conv1, self.conv2 = conv3x3(in_channels, channels, stride), conv3x3(channels, channels)
        self.shortcut = shortcut_by(type(self).__name__, shortcut, in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height / stride, width / stride)` of `(batch, in_channels, height, width)`."""
        x = F.relu(self.norm1(x))
        return self.shortcut(x) + self.conv2(F.relu(self.norm2(self.conv1(x))))  # type: ignore[no-any-return]


class BottleneckTransition(nn.Module):
    """A `Transition` whose branch is a bottleneck: 1×1, 3×3, 1×1 convolutions, the middle ones narrower.

    Args:
        in_channels: channels of the input.
        channels: channels of the result.
        norm: makes a normalisation layer for a number of channels.
        stride: by how much height and width shrink.
        width: channels in the middle; None has a quarter of `channels`.
        groups: in how many groups the 3×3 convolution works, as in a ResNeXt.
        shortcut: `projection` or `padding`.

    Raises:
        InputError: for another shortcut, and for a padding that would make fewer channels.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        norm: Norm = nn.BatchNorm2d,
        stride: int = 2,
        width: int | None = None,
        groups: int = 1,
        shortcut: Shortcut = "projection",
    ) -> None:
        super().__init__()
        width = channels // 4 if width is None else width
        self.norm = norm(in_channels)
        self.branch = nn.Sequential(*bottleneck(in_channels, channels, width, norm, stride, groups))
        self.shortcut = shortcut_by(type(self).__name__, shortcut, in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height / stride, width / stride)` of `(batch, in_channels, height, width)`."""
        x = F.relu(self.norm(x))
        return self.shortcut(x) + self.branch(x)  # type: ignore[no-any-return]  # a module's call is untyped


class PartitionedTransition(nn.Module):
    """The block of a RevNet where size and width change: q₊ = s(q) + f(p), then p₊ = s(p) + g(q₊), halves of channels.

    f and g are two convolutions each, behind norm and ReLU; f changes size and width, g finds them changed; s is
    `padding`. It cannot be undone, so that what enters it is stored.

    Args:
        in_channels: channels of the input, an even number.
        channels: channels of the result, an even number and no fewer.
        norm: makes a normalisation layer for a number of channels.
        stride: by how much height and width shrink.

    Raises:
        InputError: for odd numbers, or fewer channels.

    Reference: Gomez, Ren, Urtasun & Grosse, NeurIPS 2017 (arXiv 1707.04585), §3.1.
    """

    def __init__(self, in_channels: int, channels: int, norm: Norm = nn.BatchNorm2d, stride: int = 2) -> None:
        super().__init__()
        if in_channels % 2 or channels % 2 or channels < in_channels:
            raise InputError(
                f"PartitionedTransition got {in_channels} channels to {channels}; both must be even, and none be lost"
            )
        before, half = in_channels // 2, channels // 2
        self.velocity, self.force = _branch(before, half, norm, stride), _branch(half, half, norm, 1)
        self.shortcut = Padding(stride, half - before)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height / stride, width / stride)` of `(batch, in_channels, height, width)`."""
        q, p = x.chunk(2, 1)
        q = self.shortcut(q) + self.velocity(p)
        return torch.cat([q, self.shortcut(p) + self.force(q)], 1)


class Padding(nn.Module):
    """Every `stride`-th pixel, and `more` channels of zeros: a shortcut without parameters.

    Args:
        stride: by how much height and width shrink.
        more: how many channels are added.
    """

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels + more, height / stride, width / stride)`."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


def _branch(in_channels: int, channels: int, norm: Norm, stride: int) -> nn.Sequential:
    first, second = conv3x3(in_channels, channels, stride), conv3x3(channels, channels)
    return nn.Sequential(norm(in_channels), nn.ReLU(), first, norm(channels), nn.ReLU(), second)


def shortcut_by(name: str, shortcut: Shortcut, in_channels: int, channels: int, stride: int) -> nn.Module:
    """What passes by a block of the class `name` that changes its features."""
    check_word(name, "shortcut", shortcut, ("projection", "padding"))
    if shortcut == "projection":
        return nn.Conv2d(in_channels, channels, 1, stride, bias=False)
    if channels < in_channels:
        raise InputError(
            f"{name} got shortcut='padding' from {in_channels} channels to {channels}; padding adds channels, use "
            "shortcut='projection'"
        )
    return Padding(stride, channels - in_channels)
