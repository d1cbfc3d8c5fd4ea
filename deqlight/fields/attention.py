"""Station: the vector field, where each place looks at all others."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor
from .norm import GroupNorm2d
from .zeroed import zeroed

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """u + f(u), where each pixel takes a mean of all, weighed by how well it goes with them; f starts at zero.

    It knows no places: where pixels change theirs, so does the result. Torch's fast attention has first derivatives
    alone, backward; for second and forward ones, as of divergences in training, call it under
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.

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
