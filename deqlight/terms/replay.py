"""Station: the right-hand side, evaluated again. What must not happen twice when a field is recomputed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["frozen_statistics"]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Evaluate again without counting twice: normalisation layers compute as before, running statistics stay."""
    tracking = [layer for layer in module.modules() if isinstance(layer, _NormBase) and layer.training]
    tracking = [layer for layer in tracking if layer.track_running_stats]
    for layer in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True
