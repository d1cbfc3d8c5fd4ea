"""Station: the task. What all tasks share, however they train: evaluation, noise, and the means of an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torchmetrics import MetricCollection

from ..brownian import Key, keyed
from ..callbacks import FiniteGuard, RunningStatistics, of_all_ranks
from ..data import Batch, labelled
from ..errors import InputError
from ..metrics import Mean
from ..solution import Stats, record
from ..types import Tensor

__all__ = ["Evaluation", "Outputs", "accuracy", "checked_classes"]

EVALUATION = -1
"""The step whose noise validation and test see."""

Outputs: TypeAlias = Any
"""What a task's `forward` gives: a tensor, for most."""


class Evaluation(L.LightningModule, ABC):
    """A network, the metrics of its evaluation, and the noise that it sees; a subclass says how it trains.

    Args:
        net: the network.
        metrics: makes the metrics of a part of the data from its name, `val` or `test`.
        means: the names of what is logged of training as the mean of an epoch.
    """

    def __init__(self, net: nn.Module, metrics: Callable[[str], MetricCollection], means: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.val_metrics, self.test_metrics = metrics("val"), metrics("test")
        self._train = (*means, "nfe/forward", "nfe/backward")
        self.means = nn.ModuleDict({name: Mean() for name in (*self._train, "val/loss", "test/loss")})
        self._solves: list[Stats] = []
        self._samples = 0
        self._seed: int | None = None

    @property
    def solves(self) -> tuple[Stats, ...]:
        """What the solves of the last forward pass cost, until the task has counted them: in a callback's batch end."""
        return tuple(self._solves)

    def outputs(self, batch: Batch) -> Outputs:
        """What the network gives for a batch: what `forward` makes of its inputs, unless a task needs more of it."""
        return self(batch.inputs)

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The mean loss of a batch, from what `forward` gave and the targets; over the labelled samples alone."""

    @abstractmethod
    def score(self, metrics: MetricCollection, outputs: Outputs, targets: Tensor) -> None:
        """Update the metrics with a batch."""

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch: once, for a call of `log` in each step costs as much as ten additions."""
        self._log_means((*self._train, *(name for name in self.means if name.startswith("cost/"))))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one batch of the validation part."""
        self._evaluate("val", self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one batch of the test part."""
        self._evaluate("test", self.test_metrics, batch)
        self._count({"nfe/forward": self._nfe()}, len(batch.ids))

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
        """Keep the seed of the noise and the means of each rank so far, so that a resumed run goes on with them."""
        checkpoint["noise_seed"] = self._seed
        mine = {
            name: (mean.total.cpu().clone(), mean.weight.cpu().clone())
            for name, mean in cast("dict[str, Mean]", dict(self.means.items())).items()
            if mean.weight
        }
        checkpoint["means"] = of_all_ranks(mine, 1 if self._trainer is None else self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the noise of the run that was saved, and with the means if the ranks are as many as then."""
        self._seed = checkpoint.get("noise_seed")
        ranks = checkpoint.get("means", [])
        world, rank = (1, 0) if self._trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        for name, (total, weight) in (ranks[rank] if len(ranks) == world else {}).items():
            if name not in self.means:
                self.means[name] = Mean().to(self.device)
            mean = cast(Mean, self.means[name])
            mean.total, mean.weight = total.to(self.device), weight.to(self.device)

    def _noise_seed(self) -> int:
        if self._seed is None:  # an unseeded run draws one; the ranks must agree on it
            attached = self._trainer is not None
            seed = torch.initial_seed()
            self._seed = int(self.trainer.strategy.broadcast(seed)) if attached else seed
        return self._seed

    def configure_model(self) -> None:
        """Share weights, gradients and the optimiser's numbers out among the ranks, where the strategy is one for that.

        The network is one unit: it is gathered before its forward pass and let go after the backward pass, so that no
        solve meets another rank, whatever its steps.
        """
        if self._trainer is not None and isinstance(self.trainer.strategy, ModelParallelStrategy):
            mesh = cast(DeviceMesh, self.device_mesh)["data_parallel"]
            fully_shard(self.net, mesh=mesh, reshard_after_forward=False)

    def configure_callbacks(self) -> list[L.Callback]:
        """What every training has: care for running statistics, and a guard, unless the trainer has its own."""
        own = any(isinstance(one, FiniteGuard) for one in getattr(self.trainer, "callbacks"))  # noqa: B009
        return [RunningStatistics()] if own else [RunningStatistics(), FiniteGuard()]

    def _evaluate(self, stage: str, metrics: MetricCollection, batch: Batch) -> None:
        with keyed(self.key(batch)), record() as self._solves:
            outputs = self.outputs(batch)
        self._count({f"{stage}/loss": self.loss(outputs, batch.targets)}, labelled(batch.targets))
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
        self._count({f"cost/{name}": value for name, value in sums.items()}, len(batch.ids))
        return sum(charge.weight * charge.value.mean() for charge in charges)

    def on_after_backward(self) -> None:
        """Count what the backward pass cost, before the batch's end, where a checkpoint may be written."""
        if self._samples:
            spent = float(sum(stats.nfe_backward for stats in self._solves))
            self._count({"nfe/backward": spent}, self._samples)
        self._samples = 0

    def _nfe(self) -> float:
        """Field evaluations per sample, summed over the solves of the last forward pass."""
        return float(sum(stats.nfe.float().mean() for stats in self._solves))

    def _count(self, values: dict[str, Tensor | float], weight: Tensor | int) -> None:
        """Add to the means of the epoch, as means of so many samples."""
        for name, value in values.items():
            cast(Mean, self.means[name]).update(value, weight)

    def _log_means(self, names: Iterable[str]) -> None:
        """Log means over the epoch and all ranks, each batch by its size; the ranks meet here and nowhere else."""
        for name in names:
            mean = cast(Mean, self.means[name])
            self.log(name, mean.compute(), prog_bar=name == "val/loss")  # a bar has room for two numbers
            mean.reset()


def accuracy(scores: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose likeliest class is the true one, by scores or probabilities `(batch, classes)`.

    Of mixed samples, with targets `(batch, classes)`, the mean weight that a target has on the likeliest class.
    """
    likeliest = scores.argmax(1)
    if targets.is_floating_point():
        return targets.gather(1, likeliest[:, None]).mean()
    return (likeliest == targets).float().mean()


def checked_classes(name: str, classes: int) -> int:
    """The number of classes, if there are two at least.

    Raises:
        InputError: if there are not.
    """
    if classes < 2:
        raise InputError(f"{name}: classes is {classes}; at least 2 are needed")
    return classes
