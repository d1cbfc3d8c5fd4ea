"""Station: the task. Classes, and how far to trust what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal, NamedTuple

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ..brownian import keyed
from ..data import Batch, labelled
from ..errors import ShapeError
from ..metrics import DOUBTS, OUTSIDE, Predictive, uncertainty_metrics
from ..nets import Several
from ..robustness import Classifier
from ..types import Tensor
from .base import Task
from .evaluation import accuracy, checked_classes

__all__ = ["ClassifyUncertain", "Uncertain", "checked", "likelihood", "mean_logs", "metrics_of"]


class Uncertain(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position of each sample in the data set, `(batch,)`."""
    classes: Tensor
    """The likeliest class, `(batch,)`."""
    probabilities: Tensor
    """Their mean over the draws, `(batch, classes)`."""
    variance: Tensor
    """Their variance over the draws, `(batch, classes)`."""
    entropy: Tensor
    """Of the mean probabilities, in nats, `(batch,)`."""
    information: Tensor
    """The part of it that is disagreement of the draws, `(batch,)`."""


class ClassifyUncertain(Task, Classifier):
    """Classification by networks that say several things of a sample: `Ensemble`, `Draws`; or one, as any classifier.

    In training the loss is the mean cross entropy over the draws, so that each member of an ensemble learns as it would
    alone. In evaluation probabilities are averaged over the draws, and `val/` and `test/` `loss`, `accuracy`, `ece`
    (expected calibration error, 15 bins) and `nll` are those of the mean. Samples of class −1 are outside: no loss and
    no accuracy counts them. How well doubt detects them is logged as `test/auroc_DOUBT`, `aupr_DOUBT`, `fpr95_DOUBT`
    for the doubts `confidence`, `entropy`, `variance` and `information` (see `deqlight.metrics.Predictive`).

    Args:
        net: the network.
        classes: number of classes.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule from the optimiser; None keeps the rate.
        scheduler_interval: whether the schedule counts epochs (`CosineAnnealingLR(T_max=epochs)`) or steps
            (`OneCycleLR(total_steps=…)`).
        outside: whether the test part has samples outside, so that their detection is measured.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        outside: bool = False,
    ) -> None:
        doubts = {"val": (), "test": DOUBTS if outside else ()}
        metrics = partial(metrics_of, classes=checked_classes("ClassifyUncertain", classes), doubts=doubts)
        super().__init__(net, optimizer, scheduler, scheduler_interval, metrics, watched=("train/accuracy",))
        self.classes = classes

    def forward(self, inputs: Tensor) -> Tensor:
        """The scores of each draw, `(draws, batch, classes)`, for a batch of inputs."""
        scores: Tensor = self.net.passes(inputs) if isinstance(self.net, Several) else self.net(inputs)[None]
        return checked(scores, self.classes)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """In training the mean cross entropy of all draws; in evaluation −log of the mean probability."""
        if self.training:
            each = targets.expand(len(outputs), *targets.shape).flatten(0, 1)
            return F.cross_entropy(outputs.flatten(0, 1), each)
        return likelihood(Predictive(outputs), targets)

    def watch(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The accuracy of the mean probabilities."""
        return {"train/accuracy": accuracy(Predictive(outputs).mean, targets)}

    def score(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Update with the mean probabilities, and with the doubts."""
        predictive = Predictive(outputs)
        metrics.update(preds=predictive.probabilities, target=targets, doubts=predictive.doubts())

    def logs(self, outputs: Tensor) -> Tensor:
        """The logarithm of the mean probabilities, `(batch, classes)`."""
        return mean_logs(outputs)

    def predict_step(self, batch: Batch, batch_idx: int) -> Uncertain:
        """Mean, variance and doubt of each sample, with its id."""
        with keyed(self.key(batch)):
            said = Predictive(self(batch.inputs))
        mean = said.probabilities
        return Uncertain(batch.ids, mean.argmax(1), mean, said.variance, said.entropy, said.information)


def likelihood(predictive: Predictive, targets: Tensor) -> Tensor:
    """The mean of −log p over the samples of a class; 0 where there is none."""
    total = F.nll_loss(predictive.mean, targets, ignore_index=OUTSIDE, reduction="sum")
    return total / max(int(labelled(targets)), 1)


def mean_logs(scores: Tensor) -> Tensor:
    """The logarithm of the mean probabilities, `(batch, classes)`, of scores `(draws, batch, classes)`; with gradients.

    `Predictive.mean` is the same without gradients.
    """
    return scores.log_softmax(-1).logsumexp(0) - math.log(len(scores))


def checked(scores: Tensor, classes: int) -> Tensor:
    """The scores `(draws, batch, classes)`, if that is what they are.

    Raises:
        ShapeError: if they are not.
    """
    if scores.dim() != 3 or scores.shape[2] != classes:
        raise ShapeError(f"the network gave scores of shape {tuple(scores.shape[1:])}; it needs (batch, {classes})")
    return scores


def metrics_of(stage: str, classes: int, doubts: Mapping[str, tuple[str, ...]]) -> MetricCollection:
    """The metrics of a part of the data, whose doubts are named by its name."""
    return uncertainty_metrics(stage, classes, doubts[stage])
