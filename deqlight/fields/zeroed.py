"""Station: the vector field, where it starts from nothing: layers that give 0 before training."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

__all__ = ["zeroed"]

Affine = TypeVar("Affine", nn.Linear, nn.Conv2d)


def zeroed(layer: Affine) -> Affine:
    """The layer, with weights and bias of zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
