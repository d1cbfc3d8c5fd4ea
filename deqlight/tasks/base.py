"""Station: the task. What all tasks share that train by one loss: the steps and the optimiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torchmetrics import MetricCollection

from ..brownian import keyed
from ..data import Batch
from ..solution import record
from ..types import Tensor
from .evaluation import Evaluation, Outputs

__all__ = ["Task"]

PLATEAU = "val/loss"  # what ReduceLROnPlateau watches unless it names another


class Task(Evaluation, ABC):
    """A loss and metrics around any network; a task says what they are.

    Logged per epoch, over all ranks: `train/loss` and what the task watches, `val/` and `test/` `loss` and the task's
    metrics, and `nfe/forward`, `nfe/backward`: field evaluations per sample and batch, summed over the network's
    solves; `cost/NAME`, what these were charged for, which the training loss contains with its weight.
    `train/loss_step` is the loss of single batches on the first rank.

    Args:
        net: the network.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule from the optimiser; None keeps the rate.
        scheduler_interval: whether the schedule counts epochs (`CosineAnnealingLR(T_max=epochs)`) or steps
            (`OneCycleLR(total_steps=…)`).
        metrics: makes the metrics of a part of the data from its name, `val` or `test`.
        watched: the names of what `watch` gives.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None,
        scheduler_interval: Literal["epoch", "step"],
        metrics: Callable[[str], MetricCollection],
        watched: Sequence[str] = (),
    ) -> None:
        super().__init__(net, metrics, ("train/loss", *watched))
        self._optimizer, self._scheduler, self._interval = optimizer, scheduler, scheduler_interval

    @abstractmethod
    def watch(self, outputs: Outputs, targets: Tensor) -> dict[str, Tensor]:
        """What else is logged of a batch in training, by its full name; means over the batch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        with keyed(self.key(batch)), record() as self._solves:
            outputs = self.outputs(batch)
        self._samples = len(batch.ids)
        loss = self.loss(outputs, batch.targets) + self._charge(batch)
        self.log("train/loss_step", loss.detach(), prog_bar=True)
        watched = self.watch(outputs.detach(), batch.targets)
        self._count({"train/loss": loss.detach(), **watched, "nfe/forward": self._nfe()}, len(batch.ids))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and schedule of the configuration."""
        optimizer = self._optimizer(self.parameters())
        if self._scheduler is None:
            return optimizer
        scheduler = self._scheduler(optimizer)
        monitor = vars(scheduler).get("monitor", PLATEAU)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self._interval, "monitor": monitor},
        }
