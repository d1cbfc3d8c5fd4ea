"""Station: the vector field of several branches, side by side: what shake-shake shakes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..types import Tensor, Time

__all__ = ["Branches"]

Block = Callable[[int], nn.Module]


class Branches(nn.Module):
    """Two fields of one kind with weights of their own, and their mean: ½ (f₁ + f₂).

    The field of a two-branch residual network; `ShakeShake` draws the weights of the mean at random.

    Args:
        channels: channels of the state and of the result.
        block: makes a field for a number of channels, such as `PreActivation`.

    Reference: Gastaldi, Shake-Shake regularization, 2017 (arXiv 1705.07485).
    """

    def __init__(self, channels: int, block: Block) -> None:
        super().__init__()
        self.first, self.second = block(channels), block(channels)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at time `t` and `y` `(batch, channels, …)`, shaped as `y`."""
        return 0.5 * (self.first(t, y) + self.second(t, y))  # type: ignore[no-any-return]  # a module's call is untyped

    def both(self, t: Time, y: Tensor) -> Tensor:
        """The values of both branches, `(batch, channels, …, 2)`."""
        return torch.stack([self.first(t, y), self.second(t, y)], -1)
