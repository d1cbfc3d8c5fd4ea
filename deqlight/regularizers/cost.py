"""Station: what a solve is charged for. A cost is summed along the solve and added to the loss."""

from __future__ import annotations

from abc import ABC

__all__ = ["Cost"]


class Cost(ABC):
    """Something that a network pays for in training, added to the loss with a weight."""

    weight: float
