"""Expansion, a cost on how fast trajectories part from each other, as a plugin for deqlight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from deqlight.plugin import impl
from deqlight.regularizers import Cost, RunningCost
from deqlight.types import State, Tensor, Time

__all__ = ["Expansion", "deqlight_costs"]


@dataclass(frozen=True)
class Expansion(RunningCost):
    """How fast trajectories part: ∫ max(0, εᵀJε/‖ε‖² + margin)² dt with J = ∂f/∂u and ε a random direction.

    Two trajectories that lie apart by a small multiple of ε part, at that moment, at the rate εᵀJε/‖ε‖²; the largest
    rate over all directions is the logarithmic norm of J, which bounds every Lyapunov exponent of the flow. Where the
    cost is zero for all ε, the flow brings trajectories together at the rate `margin`: a small change of the input
    stays small. ε is drawn once per solve for each sample, by its key; one backward pass through each evaluation.

    Args:
        margin: at what rate trajectories should come together; 0 asks that they do not part.
        weight: its weight in the loss.

    Raises:
        ValueError: for a margin that is not a finite number.

    Reference: Dahlquist 1959 (logarithmic norms); Haber & Ruthotto, Stable Architectures for Deep Neural Networks, 2017
    (arXiv 1705.03341).
    """

    noisy: ClassVar[bool] = True
    derives: ClassVar[bool] = True

    margin: float = 0.0
    weight: float = 0.1

    def check(self) -> None:
        """Refuse a margin that is no number."""
        if not abs(self.margin) < float("inf"):
            raise ValueError(f"Expansion got margin={self.margin}; it must be a finite number")

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """max(0, εᵀJε/‖ε‖² + margin)² of each sample, `(batch,)`."""
        states, values, ways = (_parts(part) for part in (y, f, direction))
        size = sum(way.flatten(1).square().sum(1) for way in ways)
        moving = [(value, way) for value, way in zip(values, ways, strict=True) if value.requires_grad]
        stretch = torch.zeros_like(states[0].flatten(1)[:, 0])
        if moving:
            outputs, weights = zip(*moving, strict=True)
            pulled = torch.autograd.grad(
                outputs, states, weights, create_graph=True, allow_unused=True, materialize_grads=True
            )
            for back, way in zip(pulled, ways, strict=True):
                stretch = stretch + (back * way).flatten(1).sum(1)
        return torch.relu(stretch / size + self.margin).square()


def _parts(y: State | None) -> tuple[Tensor, ...]:
    return () if y is None else y if isinstance(y, tuple) else (y,)


@impl
def deqlight_costs() -> list[type[Cost]]:
    """Brings Expansion to the `costs` of every network."""
    return [Expansion]
