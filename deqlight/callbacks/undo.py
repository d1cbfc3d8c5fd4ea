"""Station: what runs beside the training. What a forward pass changes besides the weights, kept to be put back."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchmetrics import Metric

from ..types import Tensor

__all__ = ["Undo"]


class Undo:
    """Remembers buffers (running statistics) and the counts of metrics: one bad batch would make NaN of them."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._counts: dict[str, dict[str, Any]] = {}

    def note(self, module: nn.Module) -> None:
        """Copy what is there now."""
        self._buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self._counts = {name: _copied(one.metric_state) for name, one in _metrics(module).items()}

    def restore(self, module: nn.Module) -> None:
        """Put it back; a metric that has come since is emptied."""
        for name, buffer in module.named_buffers():
            if name in self._buffers:
                buffer.copy_(self._buffers[name])
        for name, metric in _metrics(module).items():
            if name not in self._counts:
                metric.reset()
            for key, value in _copied(self._counts.get(name, {})).items():
                setattr(metric, key, value)


def _metrics(module: nn.Module) -> dict[str, Metric]:
    return {name: one for name, one in module.named_modules() if isinstance(one, Metric)}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, list) else value.clone() for key, value in state.items()}
