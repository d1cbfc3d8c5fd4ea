"""Station: the task. SDE-Net: the drift learns the classes, the diffusion learns where the data ends."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from ..brownian import keyed, next_stream
from ..data import Batch
from ..errors import InputError
from ..metrics import DOUBTS, Predictive
from ..nets import SDENet
from ..robustness import Classifier
from ..solution import record
from ..types import Tensor
from .evaluation import Evaluation, accuracy, checked_classes
from .uncertain import checked, likelihood, mean_logs, metrics_of

__all__ = ["ClassifySDENet", "Scattered"]

DIFFUSION = "diffusion"
"""The name of the doubt that the diffusion is."""


class Outlook(NamedTuple):
    """What the task's `forward` gives."""

    scores: Tensor
    """Of each draw, `(draws, batch, classes)`."""
    logit: Tensor
    """Of the diffusion g, `(batch,)`."""


class Scattered(NamedTuple):
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
    diffusion: Tensor
    """G, from 0 on the data to 1 outside, `(batch,)`."""


class ClassifySDENet(Evaluation, Classifier):
    """Trains an `SDENet`: cross entropy for stem, drift and head; for the diffusion, data against noisy data.

    The diffusion's own loss is that of telling the batch (0) from the batch with Gaussian noise added (1); it reaches
    neither stem nor drift, and the cross entropy does not reach the diffusion. Each has an optimiser of its own, and
    both take a step after one backward pass, so that plain DDP serves, and in the trainer's count a batch is two steps.
    (The authors' code takes the diffusion's step with the stem after its step; the difference is one learning rate.)

    Logged per epoch, over all ranks: `train/loss` (cross entropy), `train/diffusion` (the diffusion's loss),
    `train/accuracy`; `val/` and `test/` as `ClassifyUncertain` has it, with one doubt more, `diffusion`: g itself; and
    `nfe/forward`, `nfe/backward`, the drift's evaluations summed over the draws.

    Args:
        net: the network.
        classes: number of classes.
        optimizer: makes the optimiser of stem, drift and head from their parameters.
        diffusion_optimizer: makes the optimiser of the diffusion from its parameters.
        spread: standard deviation of the noise that makes outside samples from the data; 2 in the authors' code.
        scheduler: makes the schedule of the first optimiser; None keeps the rate.
        diffusion_scheduler: makes the schedule of the second.
        scheduler_interval: whether the schedules count epochs or batches (`step`).
        clip: the largest norm of each optimiser's gradient; the trainer's `gradient_clip_val` serves one alone.
        outside: whether the test part has samples outside, of class −1, so that their detection is measured.

    Raises:
        InputError: for sizes that make no sense; at the start of the training for `ReduceLROnPlateau`.

    Reference: Kong, Sun & Zhang, SDE-Net, ICML 2020 (arXiv 2008.10546), algorithm 1.
    """

    def __init__(
        self,
        net: SDENet,
        classes: int,
        optimizer: OptimizerCallable,
        diffusion_optimizer: OptimizerCallable,
        spread: float,
        scheduler: LRSchedulerCallable | None = None,
        diffusion_scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        clip: float | None = None,
        outside: bool = False,
    ) -> None:
        if not (spread > 0 and math.isfinite(spread)):
            raise InputError(f"ClassifySDENet: spread is {spread}; it must be above 0, or nothing is outside")
        doubts = {"val": (), "test": (*DOUBTS, DIFFUSION) if outside else ()}
        metrics = partial(metrics_of, classes=checked_classes("ClassifySDENet", classes), doubts=doubts)
        super().__init__(net, metrics, ("train/loss", "train/diffusion", "train/accuracy"))
        self.automatic_optimization = False
        self.classes, self.spread, self.clip, self._interval = classes, spread, clip, scheduler_interval
        self._optimizers = optimizer, diffusion_optimizer
        self._schedulers = scheduler, diffusion_scheduler

    def forward(self, inputs: Tensor) -> Outlook:
        """The scores of each draw, and the diffusion's logit; no gradient of the scores reaches the diffusion."""
        net = cast(SDENet, self.net)
        features = net.features(inputs)
        logit = net.logit(features.detach())
        return Outlook(checked(net.solved(features, logit.detach().sigmoid()), self.classes), logit)

    def loss(self, outputs: Outlook, targets: Tensor) -> Tensor:
        """In training the cross entropy of the draw; in evaluation −log of the mean probability."""
        if self.training:
            return F.cross_entropy(outputs.scores[0], targets)
        return likelihood(Predictive(outputs.scores), targets)

    def score(self, metrics: MetricCollection, outputs: Outlook, targets: Tensor) -> None:
        """Update with the mean probabilities, and with the doubts."""
        said = Predictive(outputs.scores)
        doubts = {**said.doubts(), DIFFUSION: outputs.logit}  # g grows with its logit, and does not saturate
        metrics.update(preds=said.probabilities, target=targets, doubts=doubts)

    def logs(self, outputs: Outlook) -> Tensor:
        """The logarithm of the mean probabilities, `(batch, classes)`."""
        return mean_logs(outputs.scores)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of both optimisers."""
        with keyed(self.key(batch)), record() as self._solves:
            outputs = self(batch.inputs)
            outside = self._outside(cast(Tensor, batch.inputs))
        self._samples = len(batch.ids)
        loss, telling = self.loss(outputs, batch.targets), _telling(outputs.logit, outside)
        self._step(loss + telling)
        self.log("train/loss_step", loss.detach(), prog_bar=True)
        right = accuracy(outputs.scores[0], batch.targets)
        means = {"train/loss": loss.detach(), "train/diffusion": telling.detach(), "train/accuracy": right}
        self._count({**means, "nfe/forward": self._nfe()}, len(batch.ids))

    def configure_optimizers(self) -> Any:
        """Both optimisers, and their schedules."""
        net = cast(SDENet, self.net)
        diffusion = list(net.diffusion.parameters())
        groups = [p for p in net.parameters() if not any(p is other for other in diffusion)], diffusion
        optimizers = [make(iter(group)) for make, group in zip(self._optimizers, groups, strict=True)]
        pairs = zip(self._schedulers, optimizers, strict=True)
        schedulers = [make(optimizer) for make, optimizer in pairs if make is not None]
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise InputError("ClassifySDENet got ReduceLROnPlateau, which waits for a score; use a schedule of steps")
        return optimizers, schedulers

    def predict_step(self, batch: Batch, batch_idx: int) -> Scattered:
        """Mean, variance and doubts of each sample, with its id."""
        with keyed(self.key(batch)):
            outputs = self(batch.inputs)
        said = Predictive(outputs.scores)
        mean, g = said.probabilities, outputs.logit.sigmoid()
        return Scattered(batch.ids, mean.argmax(1), mean, said.variance, said.entropy, said.information, g)

    def _outside(self, inputs: Tensor) -> Tensor:
        """The diffusion's logit `(batch,)` for the batch with noise added, by the next stream of the key."""
        noisy = inputs + self.spread * next_stream().normal(1, inputs)[:, 0]
        net = cast(SDENet, self.net)
        with torch.no_grad():
            features = net.features(noisy)
        return net.logit(features)

    def _step(self, loss: Tensor) -> None:
        optimizers, schedulers = cast("list[Optimizer]", self.optimizers()), self.lr_schedulers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            if self.clip is not None:
                self.clip_gradients(optimizer, self.clip, "norm")
            optimizer.step()
        if schedulers is not None and (self._interval == "step" or self.trainer.is_last_batch):
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
                scheduler.step()  # type: ignore[call-arg]  # not one that waits for a score


def _telling(inside: Tensor, outside: Tensor) -> Tensor:
    """The loss of telling data (0) from what is outside (1) by logits; labels are as many as the batch."""
    return _against(inside, 0.0) + _against(outside, 1.0)


def _against(logit: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))
