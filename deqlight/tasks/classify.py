"""Station: the task. Classes: cross entropy, accuracy, calibration, and what the solves cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, cast

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from ..callbacks import FiniteGuard
from ..data import Batch
from ..errors import InputError, ShapeError
from ..solution import Stats, record
from ..types import Tensor
from .mean import Mean

__all__ = ["Classify", "Prediction"]

TRAIN = ("train/loss", "train/accuracy", "nfe/forward", "nfe/backward")
MEANS = (*TRAIN, "val/loss", "test/loss")
PLATEAU = "val/loss"  # what ReduceLROnPlateau watches unless it names another


class Prediction(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position of each sample in the data set, `(batch,)`."""
    classes: Tensor
    """The likeliest class, `(batch,)`."""
    probabilities: Tensor
    """`(batch, classes)`."""


class Classify(L.LightningModule):
    """Classification by any network that gives scores `(batch, classes)`.

    Logged per epoch, over all ranks: `train/loss`, `train/accuracy`, `val/` and `test/` `loss`, `accuracy` and `ece`
    (expected calibration error, 15 bins), and `nfe/forward`, `nfe/backward`: field evaluations per sample and batch,
    summed over the network's solves. `train/loss_step` is the loss of single batches on the first rank.

    Args:
        net: the network.
        classes: number of classes.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule from the optimiser; None keeps the rate.
        scheduler_interval: whether the schedule counts epochs (`CosineAnnealingLR(T_max=epochs)`) or steps
            (`OneCycleLR(total_steps=…)`).
        label_smoothing: weight of the uniform distribution in the training targets.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise InputError(f"Classify: classes is {classes}; at least 2 are needed")
        if not 0.0 <= label_smoothing < 1.0:
            raise InputError(f"Classify: label_smoothing is {label_smoothing}; it must lie in [0, 1)")
        self.net, self.classes, self.label_smoothing = net, classes, label_smoothing
        self._optimizer, self._scheduler, self._interval = optimizer, scheduler, scheduler_interval
        self.val_metrics, self.test_metrics = _metrics("val", classes), _metrics("test", classes)
        self.means = nn.ModuleDict({name: Mean() for name in MEANS})
        self._solves: list[Stats] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores `(batch, classes)` of a batch of inputs."""
        scores: Tensor = self.net(inputs)
        if scores.shape[1:] != (self.classes,):
            raise ShapeError(
                f"the network gave scores of shape {tuple(scores.shape)}; Classify needs (batch, {self.classes})"
            )
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        with record() as self._solves:
            scores = self(batch.inputs)
        loss = F.cross_entropy(scores, batch.targets, label_smoothing=self.label_smoothing)
        accuracy = (scores.detach().argmax(1) == batch.targets).float().mean()
        self.log("train/loss_step", loss.detach(), prog_bar=True)
        self._count({"train/loss": loss.detach(), "train/accuracy": accuracy, "nfe/forward": self._nfe()}, batch)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count what the backward pass cost, which is known only now."""
        self._count({"nfe/backward": float(sum(stats.nfe_backward for stats in self._solves))}, batch)
        self._solves = []

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch: once, for a call of `log` in each step costs as much as ten additions."""
        self._log_means(TRAIN)

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

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Probabilities and the likeliest class of each sample, with its id."""
        probabilities = self(batch.inputs).softmax(1)
        return Prediction(batch.ids, probabilities.argmax(1), probabilities)

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
        with record() as self._solves:
            scores = self(batch.inputs)
        metrics.update(scores.softmax(1), batch.targets)
        self.log_dict(metrics, batch_size=len(batch.ids))
        self._count({f"{stage}/loss": F.cross_entropy(scores, batch.targets)}, batch)

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


def _metrics(stage: str, classes: int) -> MetricCollection:
    return MetricCollection(
        {
            f"{stage}/accuracy": MulticlassAccuracy(classes, average="micro"),
            f"{stage}/ece": MulticlassCalibrationError(classes),
        },
        compute_groups=False,
    )
