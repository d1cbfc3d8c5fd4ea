"""Station: the vector field of second-order equations: on pairs of positions and velocities."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..errors import ShapeError
from ..states import leaves
from ..types import State, Tensor, Time

__all__ = ["SecondOrder"]


class SecondOrder(nn.Module):
    """d²q/dt² = f(t, q, dq/dt), as the field of the pair (q, v): q' = v, v' = f(t, q, v).

    Trajectories of q may cross, which those of a first-order equation cannot; and v stays the velocity, whatever f
    learns. The state is a tuple, for any solver that takes an `ODETerm`; lifts that make one are `WithVelocity` and
    `Split`. Where f depends on q alone, `Partitioned` lets symplectic solvers use that.

    Args:
        channels: channels of q, and of v.
        acceleration: makes f for the channels of q and v side by side, such as `MLP` or `ConcatConv`: any field. The
            half of its result that belongs to v is v'; the other, in whose place v stands, is not used.

    Raises:
        ShapeError: from `forward`, for a state that is no pair.

    Reference: Norcliffe, Bodnar, Day, Simidjievski & Liò, On Second Order Behaviour in Augmented Neural ODEs, NeurIPS
    2020 (arXiv 2006.07220).
    """

    def __init__(self, channels: int, acceleration: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.channels = channels
        self.acceleration = acceleration(2 * channels)

    def forward(self, t: Time, y: State) -> State:
        """`(v, v')` at time `t` and `(q, v)`, both `(batch, channels, …)`."""
        q, v = _pair(y)
        return v, self.acceleration(t, torch.cat([q, v], 1))[:, self.channels :]


def _pair(y: State) -> tuple[Tensor, Tensor]:
    parts = leaves(y)
    if len(parts) != 2:
        raise ShapeError(
            f"SecondOrder got a state of {len(parts)} tensors; it needs a pair (q, v): lift WithVelocity or Split"
        )
    return parts
