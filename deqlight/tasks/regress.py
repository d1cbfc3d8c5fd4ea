"""Station: the task. Numbers: what a network gives, against what was measured."""

from __future__ import annotations

from abc import ABC
from typing import Literal, NamedTuple

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from ..brownian import keyed
from ..data import Batch, Start
from ..errors import InputError, ShapeError
from ..types import Tensor
from .base import Task

__all__ = ["Estimate", "Regress", "Regression"]


class Regression(Task, ABC):
    """What tasks share whose targets are numbers: the squared error, and its like in the targets' own unit.

    Args:
        net: the network.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning rate schedule from the optimiser; None keeps the rate.
        scheduler_interval: whether the schedule counts epochs (`CosineAnnealingLR(T_max=epochs)`) or steps
            (`OneCycleLR(total_steps=…)`).
        criterion: the mean loss of outputs and targets, such as `torch.nn.HuberLoss`; None is `torch.nn.MSELoss`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__(net, optimizer, scheduler, scheduler_interval, _errors)
        self.criterion = criterion or nn.MSELoss()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The criterion's mean over outputs and targets of one shape; raises `ShapeError` for two shapes."""
        if outputs.shape != targets.shape:
            raise ShapeError(
                f"the network gave {tuple(outputs.shape)} and the targets are {tuple(targets.shape)}; a regression "
                "needs one shape: set the channels of the network's last part to those of the targets"
            )
        return self.criterion(outputs, targets)  # type: ignore[no-any-return]  # a module's call is untyped

    def watch(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Nothing but the loss."""
        return {}

    def score(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Update with all numbers alike."""
        metrics.update(outputs.flatten(), targets.flatten())


class Estimate(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position of each sample in the data set, `(batch,)`."""
    values: Tensor
    """`(batch, *target)`."""


class Regress(Regression):
    """Regression by any network whose output is shaped as the targets, `(batch, *target)`.

    Logged per epoch, over all ranks: `train/loss`, `val/` and `test/` `loss`, `rmse` (root of the mean squared error)
    and `mae` (mean absolute error), and `nfe/forward`, `nfe/backward`: field evaluations per sample and batch, summed
    over the network's solves. `train/loss_step` is the loss of single batches on the first rank.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """The estimates `(batch, *target)` for a batch of inputs `(batch, *sample)`."""
        if isinstance(inputs, Start):
            raise InputError("Regress got starts and times as its inputs; they are the data of the task Forecast")
        return self.net(inputs)  # type: ignore[no-any-return]  # a module's call is untyped

    def predict_step(self, batch: Batch, batch_idx: int) -> Estimate:
        """The estimate for each sample, with its id."""
        with keyed(self.key(batch)):
            return Estimate(batch.ids, self(batch.inputs))


def _errors(stage: str) -> MetricCollection:
    return MetricCollection(
        {f"{stage}/rmse": MeanSquaredError(squared=False), f"{stage}/mae": MeanAbsoluteError()}, compute_groups=False
    )
