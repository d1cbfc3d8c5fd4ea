"""Station: the pace, as a ruler. The size of an error relative to its tolerance, for each sample or for all."""

from __future__ import annotations

import numpy as np
import torch

from ..states import each, leaves
from ..types import State, Tensor
from .base import Array

__all__ = ["rms", "scaled"]


def scaled(value: State, y0: State, y1: State, rtol: float, atol: float | Tensor) -> State:
    """`value / (atol + rtol · max(|y0|, |y1|))`, number by number."""
    return each(
        lambda v, a, b: v.detach() / torch.maximum(a.detach().abs(), b.detach().abs()).mul_(rtol).add_(atol),
        value,
        y0,
        y1,
    )


@torch.no_grad()
def rms(value: State, joint: bool) -> Array:
    """The root mean square of each sample's numbers, `(batch,)`, or of all, `(1,)`; on the host."""
    if joint:
        numbers = sum(leaf.numel() for leaf in leaves(value))
        total = torch.stack([leaf.square().sum() for leaf in leaves(value)]).sum().reshape(1)
    else:
        numbers = sum(leaf.shape[1:].numel() for leaf in leaves(value))
        total = torch.stack(
            [leaf.reshape(len(leaf), leaf.shape[1:].numel()).square().sum(1) for leaf in leaves(value)]
        ).sum(0)
    return np.asarray(total.div(numbers).sqrt_().double().cpu().numpy())
