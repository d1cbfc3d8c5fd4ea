"""Station: between tensor and state. What a solver integrates is made from features, and made back into them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from ..errors import ShapeError
from ..states import leaves
from ..types import State, Tensor

__all__ = ["Identity", "Lift", "Split"]


class Lift(ABC):
    """A way from features `(batch, channels, …)` to a state, and back."""

    @abstractmethod
    def lift(self, x: Tensor) -> State:
        """The state that stands for the features."""

    @abstractmethod
    def lower(self, y: State) -> Tensor:
        """The features that the state stands for; `lower(lift(x)) == x`."""


class Identity(Lift):
    """The features are the state."""

    def lift(self, x: Tensor) -> State:
        """`x` itself."""
        return x

    def lower(self, y: State) -> Tensor:
        """`y` itself."""
        return leaves(y)[0]


class Split(Lift):
    """The first half of the channels is q, the second half p (RevNet's partition)."""

    def lift(self, x: Tensor) -> State:
        """The pair `(q, p)`, each with half the channels; raises `ShapeError` for an odd number."""
        if x.shape[1] % 2:
            raise ShapeError(f"Split got {x.shape[1]} channels; it needs an even number to make two halves")
        q, p = x.chunk(2, 1)
        return q, p

    def lower(self, y: State) -> Tensor:
        """Both halves side by side."""
        return torch.cat(leaves(y), 1)
