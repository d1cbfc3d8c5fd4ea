"""Station: the pace, as a ruler. The size of an error relative to its tolerance, for each sample or for all."""

from __future__ import annotations

import math

import torch

from ..states import each, leaves
from ..types import State, Tensor

__all__ = ["rms", "scaled"]


def scaled(value: State, y0: State, y1: State, rtol: float, atol: float | Tensor) -> State:
    """`value / (atol + rtol · max(|y0|, |y1|))`, number by number."""
    return each(lambda v, a, b: v / torch.maximum(a.abs(), b.abs()).mul_(rtol).add_(atol), value, y0, y1)


def rms(value: State, joint: bool) -> Tensor:
    """The root mean square of each sample's numbers, `(batch,)`, or of all, a 0-d tensor."""
    parts = leaves(value)
    if joint:
        sizes = [torch.linalg.vector_norm(leaf) for leaf in parts]
        numbers = [leaf.numel() for leaf in parts]
    else:
        sizes = [torch.linalg.vector_norm(leaf.reshape(len(leaf), leaf.shape[1:].numel()), dim=1) for leaf in parts]
        numbers = [leaf.shape[1:].numel() for leaf in parts]
    whole: Tensor = sizes[0] if len(sizes) == 1 else torch.linalg.vector_norm(torch.stack(sizes), dim=0)
    if torch.compiler.is_compiling():  # a number of unknown size has no root in a graph
        return whole / whole.new_full((), sum(numbers)).sqrt()
    return whole / math.sqrt(sum(numbers) or 1)
