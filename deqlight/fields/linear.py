"""Station: the vector field, where it is linear and its flow is known: the stiff part of semilinear networks."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..terms.flows import Diagonal
from ..types import Tensor

__all__ = ["ChannelDecay"]


class ChannelDecay(Diagonal):
    """Each channel decays at a learnt rate of its own: L y = −softplus(r) y. Does not depend on time.

    In a `SemilinearStage`, exponential methods such as `ETD1` solve it exactly: a residual network whose features
    fade at rates of their own, stable at any depth.

    Args:
        channels: channels of the state, `(batch, channels, height, width)`.
        rate: the rate of every channel before training, above 0.

    Raises:
        InputError: for a rate that is not positive and finite.
    """

    def __init__(self, channels: int, rate: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"ChannelDecay got rate={rate:g}; it must be positive and finite")
        start = rate + math.log(-math.expm1(-rate))  # the inverse of softplus
        self.raw = nn.Parameter(torch.full((channels, 1, 1), start))

    @property
    def diagonal(self) -> Tensor:
        """The rates, negative, `(channels, 1, 1)`."""
        return -F.softplus(self.raw)
