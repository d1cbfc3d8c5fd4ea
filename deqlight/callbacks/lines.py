"""Station: what runs beside the training. Where there is no screen to draw a bar on: a line per epoch."""

from __future__ import annotations

import time

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["EpochLines"]


class EpochLines(L.Callback):
    """Print one line per epoch, with whatever the task logged: for log files and pipes."""

    def __init__(self) -> None:
        self._start: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; an epoch that is resumed has no start."""
        self._start = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's line."""
        shown = [
            f"{name} {float(value):.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
            if not name.endswith("_step")
        ]
        seconds = "" if self._start is None else f" ({time.perf_counter() - self._start:.1f} s)"
        epochs = (
            f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            if trainer.max_epochs
            else f"{trainer.current_epoch + 1}"
        )
        print(f"epoch {epochs}: {', '.join(shown)}{seconds}", flush=True)  # noqa: T201  its purpose
