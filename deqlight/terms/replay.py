"""Station: the right-hand side, evaluated again. What must not happen twice when a field is recomputed."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..types import Tensor

__all__ = ["Untracked", "tracking"]


class Untracked:
    """A context in which layers normalise as before, and their running statistics stay as they are.

    Args:
        layers: normalisation layers in training mode, with running statistics.
    """

    def __init__(self, layers: Iterable[_NormBase]) -> None:
        self.layers = tuple(layers)
        self.kept: list[tuple[Tensor | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self.kept = [(layer.running_mean, layer.running_var) for layer in self.layers]
        for layer in self.layers:
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None  # instance norms ask for these alone

    def __exit__(self, *error: object) -> None:
        for layer, (mean, var) in zip(self.layers, self.kept, strict=True):
            layer.track_running_stats = True
            layer.running_mean, layer.running_var = mean, var


def tracking(modules: Iterable[nn.Module]) -> list[_NormBase]:
    """The normalisation layers among modules that count running statistics when they are called."""
    norms = (layer for layer in modules if isinstance(layer, _NormBase) and layer.training)
    return [layer for layer in norms if layer.track_running_stats]
