"""Station: what runs beside the training. Predictions leave as a table that any tool can read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from ..types import Tensor

__all__ = ["Predictions"]


class Predictions(BasePredictionWriter):
    """Writes what `predict` gives, a row per sample, to `predictions.csv`; further ranks to `predictions-RANK.csv`.

    A column per field of the prediction; a field with several numbers per sample gets numbered columns.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="epoch")
        self.folder = folder

    def write_on_epoch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file of this rank."""
        rank = trainer.global_rank
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))  # the first rank's is the run's
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (f"predictions-{rank}.csv" if rank else "predictions.csv")
        fields = {name: torch.cat([getattr(batch, name) for batch in predictions]) for name in predictions[0]._fields}
        columns = {name: column for field, values in fields.items() for name, column in _columns(field, values)}
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        rank_zero_info(f"{len(next(iter(fields.values())))} predictions: {path}")


def _columns(field: str, values: Tensor) -> list[tuple[str, list[Any]]]:
    if values.dim() == 1:
        return [(field, values.tolist())]
    return [(f"{field}_{n}", column.tolist()) for n, column in enumerate(values.flatten(1).unbind(1))]
