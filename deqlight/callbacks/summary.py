"""Station: what runs beside the training. The table at the end: what came out, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

__all__ = ["Summary"]

NAMES = {"nfe/forward": "NFE forward", "nfe/backward": "NFE backward"}
PLACES = 4


class Summary(L.Callback):
    """Print a short table at the end of `fit`, `validate` and `test`, on the first rank.

    Attributes:
        epochs: seconds of each epoch, its training and validation.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self.epochs: list[float] = []
        self._start: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; a resumed epoch has no start and is not counted."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock: training and validation of the epoch."""
        if self._start is not None:
            self.epochs.append(time.perf_counter() - self._start)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print what came out, once the progress bar is gone; after a fault there is nothing to tell."""
        if trainer.callback_metrics and trainer.state.status != "interrupted":
            self._print(stage, trainer, pl_module)

    @rank_zero_only
    def _print(self, command: str, trainer: L.Trainer, module: L.LightningModule) -> None:
        table = Table(title=command, show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in self._rows(trainer, module):
            table.add_row(name, value)
        self._console.print(table)

    def _rows(self, trainer: L.Trainer, module: L.LightningModule) -> Iterator[tuple[str, str]]:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name in sorted(metrics):
            if name.startswith(("val/", "test/")) or name in NAMES:
                yield NAMES.get(name, name), f"{metrics[name]:.{PLACES}g}"
        best = trainer.checkpoint_callback
        score = vars(best).get("best_model_score") if best is not None else None
        if score is not None:
            yield f"best {vars(best)['monitor']}", f"{float(score):.{PLACES}g}"
        yield "parameters", f"{sum(p.numel() for p in module.parameters() if p.requires_grad):,}"
        if self.epochs:
            yield "seconds per epoch", f"{median(self.epochs):.3g}"
        if trainer.loggers:
            yield "run folder", str(trainer.loggers[0].log_dir or trainer.loggers[0].save_dir)
        path = vars(best).get("best_model_path") if best is not None else None
        if path:
            yield "best checkpoint", str(path)
