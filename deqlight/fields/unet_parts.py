"""Station: the vector field that is a U-Net, its parts: blocks that the noise label moves, attention, other sizes."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor
from .norm import GroupNorm2d
from .zeroed import zeroed

__all__ = ["Grow", "Residual", "SelfAttention", "Shrink", "UNetBlock", "same_size"]


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


class SelfAttention(nn.Module):
    """u + f(u), where each pixel takes a mean of all, weighed by how well it goes with them; f starts at zero.

    It knows no places: where pixels change theirs, so does the result.

    Args:
        channels: channels of the features.
        heads: how many means a pixel takes, each of some of the channels.
        groups: the largest number of groups of the norm.

    Raises:
        InputError: where the heads do not divide the channels.

    Reference: Vaswani et al., Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762).
    """

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise InputError(f"attention got channels={channels} and heads={heads}; heads must divide the channels")
        self.heads, self.norm = heads, GroupNorm2d(channels, groups)
        self.project, self.out = nn.Linear(channels, 3 * channels), zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Features shaped as `x` `(batch, channels, height, width)`."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (batch, pixels, channels)
        parts = self.project(pixels).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)  # (batch, heads, pixels, channels / heads)
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.out(found).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


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
