"""Station: what runs beside the training. Where there is no screen to draw a bar on: a line per epoch."""

from __future__ import annotations

import time

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["EpochLines"]


class EpochLines(L.Callback):
    """Print one line per epoch, with whatever the task logged: for log files and pipes.

    A task may log until the very end of an epoch: the line is printed when the next one begins, or the training ends.
    """

    def __init__(self) -> None:
        self._start: float | None = None
        self._ended = ""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch before and start the clock; an epoch that is resumed has no start."""
        self._print(trainer)
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        seconds = "" if self._start is None else f" ({time.perf_counter() - self._start:.1f} s)"
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self._ended = f"epoch {trainer.current_epoch + 1}{last}{seconds}"

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last line."""
        self._print(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Print the line of an epoch that had ended."""
        self._print(trainer)

    @rank_zero_only
    def _print(self, trainer: L.Trainer) -> None:
        if self._ended:
            values = sorted(
                (name, float(v)) for name, v in trainer.callback_metrics.items() if not name.endswith("_step")
            )
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values)
            print(f"{self._ended}: {shown}", flush=True)  # noqa: T201  its purpose
        self._ended = ""
