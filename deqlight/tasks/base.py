"""Station: the task. What all tasks share: the steps, the optimiser, and the means of an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torchmetrics import MetricCollection

from ..brownian import Key, keyed
from ..callbacks import FiniteGuard
from ..data import Batch
from ..solution import Stats, record
from ..types import Tensor
from .mean import Mean

__all__ = ["Task"]

EVALUATION = -1
"""The step whose noise validation and test see."""

PLATEAU = "val/loss"  # what ReduceLROnPlateau watches unless it names another


class Task(L.LightningModule, ABC):
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
        super().__init__()
        self.net = net
        self._optimizer, self._scheduler, self._interval = optimizer, scheduler, scheduler_interval
        self.val_metrics, self.test_metrics = metrics("val"), metrics("test")
        self._train = ("train/loss", *watched, "nfe/forward", "nfe/backward")
        self.means = nn.ModuleDict({name: Mean() for name in (*self._train, "val/loss", "test/loss")})
        self._solves: list[Stats] = []
        self._seed: int | None = None

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, from what `forward` gave and the batch's targets."""

    @abstractmethod
    def watch(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What else is logged of a batch in training, by its full name; means over the batch."""

    @abstractmethod
    def score(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Update the metrics with a batch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        with keyed(self.key(batch)), record() as self._solves:
            outputs = self(batch.inputs)
        loss = self.loss(outputs, batch.targets) + self._charge(batch)
        self.log("train/loss_step", loss.detach(), prog_bar=True)
        watched = self.watch(outputs.detach(), batch.targets)
        self._count({"train/loss": loss.detach(), **watched, "nfe/forward": self._nfe()}, batch)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count what the backward pass cost, which is known only now."""
        self._count({"nfe/backward": float(sum(stats.nfe_backward for stats in self._solves))}, batch)
        self._solves = []

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch: once, for a call of `log` in each step costs as much as ten additions."""
        self._log_means((*self._train, *(name for name in self.means if name.startswith("cost/"))))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one batch of the validation part."""
        self._evaluate("val", self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one batch of the test part."""
        self._evaluate("test", self.test_metrics, batch)
        self._count({"nfe/forward": self._nfe()}, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss."""
        self._log_means(("val/loss",))

    def on_test_epoch_end(self) -> None:
        """Log the mean loss and cost."""
        self._log_means(("test/loss", "nfe/forward"))

    def key(self, batch: Batch, draw: int = 0) -> Key:
        """What the noise of a batch is a function of: the run's seed, the step, and the samples' places in the data.

        Validation and test take one step, −1, so that they see the same noise each time; `draw` tells apart several
        draws for the same samples.
        """
        step = self.global_step if self.training else EVALUATION
        return Key(self._noise_seed(), step, batch.ids, draw, self.global_rank)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the seed of the noise, so that a resumed run goes on with it."""
        checkpoint["noise_seed"] = self._seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the noise of the run that was saved."""
        self._seed = checkpoint.get("noise_seed")

    def _noise_seed(self) -> int:
        if self._seed is None:  # an unseeded run draws one; the ranks must agree on it
            attached = self._trainer is not None
            seed = torch.initial_seed()
            self._seed = int(self.trainer.strategy.broadcast(seed)) if attached else seed
        return self._seed

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

    def configure_callbacks(self) -> list[L.Callback]:
        """A loss or a gradient that is not finite stops the training, with or without the command line."""
        return [FiniteGuard()]

    def _evaluate(self, stage: str, metrics: MetricCollection, batch: Batch) -> None:
        with keyed(self.key(batch)), record() as self._solves:
            outputs = self(batch.inputs)
        self._count({f"{stage}/loss": self.loss(outputs, batch.targets)}, batch)
        self.score(metrics, outputs, batch.targets)
        self.log_dict(metrics, batch_size=len(batch.ids))

    def _charge(self, batch: Batch) -> Tensor | float:
        """What the solves of the last forward pass were charged for, weighted; the mean over the batch."""
        charges = [charge for stats in self._solves for charge in stats.costs]
        sums = {charge.name: torch.zeros((), device=self.device) for charge in charges}
        for charge in charges:
            sums[charge.name] += charge.value.detach().mean()
        for name in sums:
            if f"cost/{name}" not in self.means:
                self.means[f"cost/{name}"] = Mean().to(self.device)
        self._count({f"cost/{name}": value for name, value in sums.items()}, batch)
        return sum(charge.weight * charge.value.mean() for charge in charges)

    def _nfe(self) -> float:
        """Field evaluations per sample, summed over the solves of the last forward pass."""
        return float(sum(stats.nfe.float().mean() for stats in self._solves))

    def _count(self, values: dict[str, Tensor | float], batch: Batch) -> None:
        """Add to the means of the epoch."""
        for name, value in values.items():
            cast(Mean, self.means[name]).update(value, len(batch.ids))

    def _log_means(self, names: Iterable[str]) -> None:
        """Log means over the epoch and all ranks, each batch by its size; the ranks meet here and nowhere else."""
        for name in names:
            mean = cast(Mean, self.means[name])
            self.log(name, mean.compute(), prog_bar=name == "val/loss")  # a bar has room for two numbers
            mean.reset()
