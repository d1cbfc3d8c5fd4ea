"""Station: the vector field that is a U-Net, its parts: blocks that the noise label moves, and the ways down and up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import nn
from torch.nn import functional as F

from ..types import Tensor
from .attention import SelfAttention
from .norm import GroupNorm2d
from .zeroed import zeroed

__all__ = ["Grow", "Residual", "Shrink", "UNetBlock", "same_size", "way_down", "way_up"]

Level: TypeAlias = tuple[int, int, int]
"""By how much the sides have shrunk, the channels of the features, the heads of the attention or 0."""


class Residual(nn.Module):
    """u + f(u): norm, SiLU, convolution, norm, moved by the condition, SiLU, dropout, convolution; f starts at zero.

    Args:
        in_channels: channels of the input; where they are not those of the result, u passes a 1×1 convolution.
        channels: channels of the result.
        width: channels of the condition.
        groups: the largest number of groups of a norm.
        dropout: the probability of leaving a number out in training.
    """

    def __init__(self, in_channels: int, channels: int, width: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = GroupNorm2d(in_channels, groups), GroupNorm2d(channels, groups)
        self.conv1, self.conv2 = same_size(in_channels, channels), zeroed(same_size(channels, channels))
        self.modulation, self.dropout = nn.Linear(width, 2 * channels), nn.Dropout(dropout)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(batch, channels, height, width)`, moved by the condition, `(batch or 1, width)`."""
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, 1)
        y = self.norm2(self.conv1(F.silu(self.norm1(x)))) * (1.0 + scale) + shift
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(y)))  # type: ignore[no-any-return]


class UNetBlock(nn.Module):
    """A residual block, then attention where it attends, then twice the size where it grows.

    Args:
        in_channels: channels of the input.
        channels: channels of the result.
        width: channels of the condition.
        groups: the largest number of groups of a norm.
        dropout: the probability of leaving a number out in training.
        heads: heads of the attention; 0 has none.
        grow: whether the result is twice as large.
    """

    def __init__(
        self, in_channels: int, channels: int, width: int, groups: int, dropout: float, heads: int, grow: bool = False
    ) -> None:
        super().__init__()
        self.residual = Residual(in_channels, channels, width, groups, dropout)
        self.attention = SelfAttention(channels, heads, groups) if heads else nn.Identity()
        self.resize = Grow(channels) if grow else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features `(batch, channels, …)` of `(batch, in_channels, height, width)`."""
        return self.resize(self.attention(self.residual(x, condition)))  # type: ignore[no-any-return]


class Shrink(nn.Module):
    """Half the size, by a 3×3 convolution that goes two pixels at a time; the condition does nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(batch, channels, height / 2, width / 2)`."""
        return self.conv(x)  # type: ignore[no-any-return]


class Grow(nn.Module):
    """Twice the size: each pixel four times, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = same_size(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, 2 · height, 2 · width)`."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


def same_size(in_channels: int, channels: int) -> nn.Conv2d:
    """A 3×3 convolution with a bias, which keeps the size, started as torch does."""
    return nn.Conv2d(in_channels, channels, 3, padding=1)


def way_down(
    levels: Sequence[Level], now: int, blocks: int, block: Callable[..., UNetBlock]
) -> tuple[nn.ModuleList, list[int]]:
    """The way down, and the channels of the features at its beginning and behind each of its modules."""
    found, widths = nn.ModuleList(), [now]
    for size, wide, heads in levels:
        if size > 1:
            found.append(Shrink(now))
            widths.append(now)
        for _ in range(blocks):
            found.append(block(now, wide, heads=heads))
            widths.append(now := wide)
    return found, widths


def way_up(
    levels: Sequence[Level], widths: Sequence[int], blocks: int, block: Callable[..., UNetBlock]
) -> nn.ModuleList:
    """The way up: each block takes what the one before it made, and the last of what is left from the way down."""
    found, now, left = nn.ModuleList(), widths[-1], list(widths)
    for size, wide, heads in reversed(levels):
        for n in range(blocks + 1):
            found.append(block(now + left.pop(), wide, heads=heads, grow=n == blocks and size > 1))
            now = wide
    return found
