"""Station: the task. Classes: cross entropy, accuracy, calibration, and what the solves cost."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ..brownian import keyed
from ..data import Batch
from ..errors import InputError, ShapeError
from ..metrics import uncertainty_metrics
from ..robustness import Classifier
from ..types import Tensor
from .base import Task
from .evaluation import accuracy, checked_classes

__all__ = ["Classify", "Prediction"]


class Prediction(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position of each sample in the data set, `(batch,)`."""
    classes: Tensor
    """The likeliest class, `(batch,)`."""
    probabilities: Tensor
    """`(batch, classes)`."""


class Classify(Task, Classifier):
    """Classification by any network that gives scores `(batch, classes)`.

    Logged per epoch, over all ranks: `train/loss`, `train/accuracy`, `val/` and `test/` `loss`, `accuracy`, `ece`
    (expected calibration error, 15 bins) and `nll`, as other tasks of classes have it, and `nfe/forward`,
    `nfe/backward`: field evaluations per sample and batch, summed over the network's solves. `train/loss_step` is the
    loss of single batches on the first rank.

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
        metrics = partial(uncertainty_metrics, classes=checked_classes("Classify", classes))
        if not 0.0 <= label_smoothing < 1.0:
            raise InputError(f"Classify: label_smoothing is {label_smoothing}; it must lie in [0, 1)")
        super().__init__(net, optimizer, scheduler, scheduler_interval, metrics, watched=("train/accuracy",))
        self.classes, self.label_smoothing = classes, label_smoothing

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores `(batch, classes)` of a batch of inputs."""
        scores: Tensor = self.net(inputs)
        if scores.shape[1:] != (self.classes,):
            raise ShapeError(
                f"the network gave scores of shape {tuple(scores.shape)}; Classify needs (batch, {self.classes})"
            )
        return scores

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross entropy of scores `(batch, classes)` and class numbers `(batch,)`, smoothed in training alone.

        Training takes probabilities of the classes `(batch, classes)`, too: mixed images have them.
        """
        if not self.training and (targets < 0).any():  # training sets have none; there a look would wait for the device
            raise InputError("Classify got samples of class -1, which belong to no class; use ClassifyUncertain")
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing if self.training else 0.0)

    def watch(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The accuracy."""
        return {"train/accuracy": accuracy(outputs, targets)}

    def score(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Update with the probabilities."""
        metrics.update(preds=outputs.softmax(1), target=targets)

    def logs(self, outputs: Tensor) -> Tensor:
        """The logarithm of the probabilities, `(batch, classes)`."""
        return outputs.log_softmax(1)

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """Probabilities and the likeliest class of each sample, with its id."""
        with keyed(self.key(batch)):
            probabilities = self(batch.inputs).softmax(1)
        return Prediction(batch.ids, probabilities.argmax(1), probabilities)
