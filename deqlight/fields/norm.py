"""Station: the vector field, normalised. Norms that are made from a number of channels alone."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["GroupNorm2d"]


class GroupNorm2d(nn.GroupNorm):
    """Group normalisation with as many groups as divide the channels, `groups` at most; mixes no samples.

    Args:
        channels: channels of the input.
        groups: the largest number of groups.

    Reference: Wu & He, ECCV 2018 (arXiv 1803.08494).
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__(math.gcd(channels, groups), channels)
