"""Station: between tensor and state. What a solver integrates is made from features, and made back into them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ..errors import InputError, ShapeError
from ..states import leaves
from ..types import State, Tensor

__all__ = ["Augment", "Identity", "Lift", "Split", "WithVelocity"]


class Lift(ABC):
    """A way from features `(batch, channels, …)` to a state, and back. One that learns is an `nn.Module` as well."""

    @abstractmethod
    def width(self, channels: int) -> int:
        """The channels of each leaf of the state, for features with so many: a field is made for these."""

    @abstractmethod
    def lift(self, x: Tensor) -> State:
        """The state that stands for the features."""

    @abstractmethod
    def lower(self, y: State) -> Tensor:
        """The features that the state stands for; `lower(lift(x)) == x`."""


class Identity(Lift):
    """The features are the state."""

    def width(self, channels: int) -> int:
        """`channels`."""
        return channels

    def lift(self, x: Tensor) -> State:
        """`x` itself."""
        return x

    def lower(self, y: State) -> Tensor:
        """`y` itself."""
        return leaves(y)[0]


class Split(Lift):
    """The first half of the channels is q, the second half p (RevNet's partition)."""

    def width(self, channels: int) -> int:
        """Half of the channels; raises `InputError` for an odd number."""
        if channels % 2:
            raise InputError(_odd(channels))
        return channels // 2

    def lift(self, x: Tensor) -> State:
        """The pair `(q, p)`, each with half the channels; raises `ShapeError` for an odd number."""
        if x.shape[1] % 2:
            raise ShapeError(_odd(x.shape[1]))
        q, p = x.chunk(2, 1)
        return q, p

    def lower(self, y: State) -> Tensor:
        """Both halves side by side."""
        return torch.cat(leaves(y), 1)


class Augment(Lift):
    """Channels of zeros behind those of the features: room in which trajectories can pass each other (ANODE).

    The flow of a first-order equation keeps what lies apart apart, and in one dimension keeps the order: no neural ODE
    learns x ↦ −x, however wide its field. One more channel is enough. After the solve the first channels are the
    features again; what the others came to is dropped.

    Args:
        channels: how many; 0 is `Identity`.

    Raises:
        InputError: for a negative number.

    Reference: Dupont et al., Augmented Neural ODEs, NeurIPS 2019 (arXiv 1904.01681).
    """

    def __init__(self, channels: int) -> None:
        if channels < 0:
            raise InputError(f"Augment got channels={channels}; it must be at least 0")
        self.channels = channels

    def width(self, channels: int) -> int:
        """Those of the features and the new ones."""
        return channels + self.channels

    def lift(self, x: Tensor) -> State:
        """`x` with the zeros, `(batch, channels + new, …)`."""
        return torch.cat([x, x.new_zeros(x.shape[0], self.channels, *x.shape[2:])], 1)

    def lower(self, y: State) -> Tensor:
        """The first channels of `y`."""
        (state,) = leaves(y)
        return state[:, : state.shape[1] - self.channels]


class WithVelocity(nn.Module, Lift):
    """The features are positions q, and the state a pair (q, v) with their velocities, as second-order equations need.

    Its field is `SecondOrder`. After the solve q are the features; the velocities are dropped.

    Args:
        velocity: from features to v at the start, shaped as they are: learnt. None starts at rest.

    Reference: Norcliffe, Bodnar, Day, Simidjievski & Liò, NeurIPS 2020 (arXiv 2006.07220).
    """

    def __init__(self, velocity: nn.Module | None = None) -> None:
        super().__init__()
        self.velocity = velocity

    def width(self, channels: int) -> int:
        """`channels`, of q as of v."""
        return channels

    def lift(self, x: Tensor) -> State:
        """The pair `(x, v)`; raises `ShapeError` if the velocities are not shaped as the features."""
        v = torch.zeros_like(x) if self.velocity is None else self.velocity(x)
        if v.shape != x.shape:
            raise ShapeError(
                f"WithVelocity got features of shape {tuple(x.shape)} and velocities of shape {tuple(v.shape)}; "
                "`velocity` must keep the shape"
            )
        return x, v

    def lower(self, y: State) -> Tensor:
        """The positions."""
        return leaves(y)[0]


def _odd(channels: int) -> str:
    return f"Split got {channels} channels; it needs an even number to make two halves"
