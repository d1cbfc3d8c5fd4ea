"""Station: what a network is charged for in its weights: that they change little from layer to layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..costs import WeightCost
from ..errors import InputError
from ..terms import Layered, Term
from ..types import Tensor

__all__ = ["Smoothness"]


@dataclass(frozen=True)
class Smoothness(WeightCost):
    """Weights smooth in depth: 1/(2h) Σ_n ‖K_{n+1} − K_n‖² over the layers of a stack, h = 1 being a layer's length.

    Args:
        weight: its weight in the loss.

    Raises:
        InputError: from a solve, for a term without layers, and for layers of different kinds.

    Reference: Haber & Ruthotto, Stable Architectures for Deep Neural Networks, 2017 (arXiv 1705.03341), §4.
    """

    weight: float = 0.0001

    def of(self, term: Term, ts: Sequence[float]) -> Tensor:
        """The sum over all stacks of the term."""
        stacks = [part for part in term.modules() if isinstance(part, Layered)]
        if not stacks:
            raise InputError(f"Smoothness got the term {type(term).__name__}; it needs Layered ones, which have depth")
        return sum((_roughness(stack) for stack in stacks), torch.zeros(()))


def _roughness(stack: Layered) -> Tensor:
    steps = [0.5 * (b - a).square().sum() for one, two in pairwise(stack.layers) for a, b in _pairs(one, two)]
    return sum(steps, torch.zeros(()))


def _pairs(one: nn.Module, two: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    first, second = dict(one.named_parameters()), dict(two.named_parameters())
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise InputError("Smoothness got layers of different kinds; weights are compared from layer to layer")
    yield from ((value, second[name]) for name, value in first.items())
