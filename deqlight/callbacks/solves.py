"""Station: what runs beside the training. What solves cost in an epoch, and how much they may."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn
from torchmetrics import MaxMetric, Metric

from ..errors import InputError, check_word
from ..metrics import Mean
from ..solution import Stats, record
from ..types import Tensor

__all__ = ["NFEBudget", "SolverStatistics"]


class _Recorded(L.Callback):
    """What both share: the solves of each training batch, and numbers of an epoch over all ranks."""

    def __init__(self, **kept: Metric) -> None:
        self._kept = kept
        self._open = ExitStack()
        self._solves: list[Stats] = []

    def add(self, solves: list[Stats]) -> None:
        """Add the solves of a batch, of which there is at least one."""
        raise NotImplementedError

    def done(self, trainer: L.Trainer, pl_module: L.LightningModule, found: dict[str, Tensor]) -> None:
        """Do something with the numbers of an epoch, which are the same on all ranks."""
        raise NotImplementedError

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to listen."""
        self._solves = self._open.enter_context(record())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what was heard."""
        self._open.close()
        if self._solves:
            self.add(self._solves)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Listen no more."""
        self._open.close()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Meet the other ranks, once an epoch."""
        found = {name: metric.to("cpu").compute() for name, metric in self._kept.items()}
        for metric in self._kept.values():
            metric.reset()
        self.done(trainer, pl_module, found)


class SolverStatistics(_Recorded):
    """Logs per epoch of training, over all ranks and samples: `solver/steps`, `solver/rejected` and `solver/nfe_max`.

    Steps taken and steps thrown away are means over the samples, summed over the solves of a batch; the last is the
    most evaluations that any sample took. An epoch without a solve logs nothing.
    """

    def __init__(self) -> None:
        super().__init__(steps=Mean(), rejected=Mean(), nfe_max=MaxMetric())

    def add(self, solves: list[Stats]) -> None:
        """Sum over the solves, mean over the samples."""
        batch = len(solves[0].nfe)
        for name, values in (("steps", [s.accepted for s in solves]), ("rejected", [s.rejected for s in solves])):
            self._kept[name].update(float(sum(value.float().mean() for value in values)), batch)
        self._kept["nfe_max"].update(float(max(int(stats.nfe.max()) for stats in solves)))

    def done(self, trainer: L.Trainer, pl_module: L.LightningModule, found: dict[str, Tensor]) -> None:
        """Log them."""
        if math.isfinite(float(found["steps"])):
            pl_module.log_dict({f"solver/{name}": value.float() for name, value in found.items()})


class NFEBudget(_Recorded):
    """Says when solves cost too much: the mean of an epoch's field evaluations per sample against a limit.

    Fields of continuous networks become stiffer as they are trained, and steps shorter. The mean is that over all
    ranks, so that all stop together, after the epoch and its checkpoint.

    Args:
        most: evaluations per sample, forward, summed over the solves of a batch.
        action: `warn`, or `stop` the training.

    Raises:
        InputError: for a limit that is not positive, and another action.
    """

    def __init__(self, most: float, action: Literal["warn", "stop"] = "warn") -> None:
        if not most > 0:
            raise InputError(f"NFEBudget got most={most}; it must be positive: evaluations per sample and batch")
        check_word("NFEBudget", "action", action, ("warn", "stop"))
        super().__init__(nfe=Mean())
        self.most, self.action = most, action

    def add(self, solves: list[Stats]) -> None:
        """Sum over the solves, mean over the samples."""
        self._kept["nfe"].update(float(sum(stats.nfe.float().mean() for stats in solves)), len(solves[0].nfe))

    def done(self, trainer: L.Trainer, pl_module: L.LightningModule, found: dict[str, Tensor]) -> None:
        """Warn, or stop."""
        nfe = float(found["nfe"])
        if not nfe > self.most:
            return
        end = "; the training ends" if self.action == "stop" else ""
        rank_zero_warn(
            f"solves took {nfe:.4g} evaluations per sample in epoch {trainer.current_epoch}, more than the "
            f"{self.most:g} of NFEBudget{end}: take a larger tolerance, a cost on the field (Kinetic, "
            "JacobianFrobenius), or fixed steps"
        )
        if self.action == "stop":
            trainer.should_stop = True
