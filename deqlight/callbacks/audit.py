"""Station: what runs beside the training. Now and then the configured gradient, beside that through the steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from ..brownian import Key, keyed
from ..errors import InputError, check_word
from ..gradients import Checkpoint, Gradient
from ..solution import unrecorded
from ..types import Tensor
from .agreement import of_all_ranks

__all__ = ["GradientAudit"]


@runtime_checkable
class Audited(Protocol):
    """What a task must have, as those of `deqlight.tasks` do."""

    def key(self, batch: Any, draw: int = 0) -> Key:
        """What the batch's noise is a function of."""

    def outputs(self, batch: Any) -> Any:
        """What the network gives."""

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean loss."""


class GradientAudit(L.Callback):
    """Compares the gradient by the network's own rule with that by `Checkpoint`, on some samples of a first batch.

    `Backsolve` is as exact as its tolerance, a reversible method as its rounding, and neither says so in training.
    Logged is `audit/gradient`, the largest relative difference over the ranks. Neither weights, gradients, buffers nor
    random numbers of the training are touched.

    Args:
        every_n_epochs: how often.
        samples: of how many samples, on each rank; a forecast is audited on all of its batch.
        tolerance: a difference above it is told.
        action: `warn`, or `stop` the training after that batch.

    Raises:
        InputError: for numbers below 1, a tolerance that is not positive, another action; at the start, for a task that
            cannot be asked.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        samples: int = 8,
        tolerance: float = 1e-2,
        action: Literal["warn", "stop"] = "warn",
    ) -> None:
        if every_n_epochs < 1 or samples < 1 or not tolerance > 0:
            raise InputError(
                f"GradientAudit got every_n_epochs={every_n_epochs}, samples={samples}, tolerance={tolerance}; the "
                "first two are at least 1, and the tolerance is positive"
            )
        check_word("GradientAudit", "action", action, ("warn", "stop"))
        self.every, self.samples, self.tolerance, self.action = every_n_epochs, samples, tolerance, action

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look whether there is anything to audit."""
        if not isinstance(pl_module, Audited):
            raise InputError(
                f"GradientAudit got the task {type(pl_module).__name__}, which has no outputs(batch), loss and key; it "
                "audits the tasks of deqlight, and such as have these"
            )
        if not list(_ruled(pl_module)):
            raise InputError("GradientAudit found no part of the network with a gradient rule; leave it out")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Audit the first batch of an epoch whose turn it is."""
        if batch_idx or trainer.current_epoch % self.every:
            return
        whole = not isinstance(batch.inputs, Tensor)  # a forecast's times are no samples
        some = batch if whole else type(batch)(*(column[: self.samples] for column in batch))
        worst = max(of_all_ranks(self._difference(pl_module, some), trainer.world_size))
        pl_module.log("audit/gradient", worst, rank_zero_only=False)
        if worst > self.tolerance:
            rank_zero_warn(
                f"the gradient differs from that through the steps by {worst:.2g}, relatively, at step "
                f"{trainer.global_step}; GradientAudit's tolerance is {self.tolerance:g}: take smaller tolerances or "
                "steps, or the rule Checkpoint"
            )
            trainer.should_stop = trainer.should_stop or self.action == "stop"

    def _difference(self, task: L.LightningModule, batch: Any) -> float:
        own = _gradient(task, batch)
        with _by_steps(task):
            exact = _gradient(task, batch)
        size = float(exact.norm())
        return float((own - exact).norm()) / size if size else float(own.norm())


def _gradient(task: Any, batch: Any) -> Tensor:
    """All numbers of the gradient, by `torch.autograd.grad`, which no hook of a process group sees."""
    parameters = [p for p in task.parameters() if p.requires_grad]
    devices = [task.device] if task.device.type == "cuda" else []
    buffers = [(buffer, buffer.clone()) for buffer in task.buffers()]
    with torch.random.fork_rng(devices), keyed(task.key(batch)), unrecorded():
        loss = task.loss(task.outputs(batch), batch.targets)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    for buffer, before in buffers:
        buffer.copy_(before)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.detach().double().flatten() for part in parts])


def _ruled(task: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that have a gradient rule."""
    return (module for module in task.modules() if isinstance(vars(module).get("gradient"), Gradient))


@contextmanager
def _by_steps(task: nn.Module) -> Iterator[None]:
    """The network with the rule that is exact for every solver."""
    before = [(module, module.gradient) for module in _ruled(task)]
    for module, _ in before:
        module.gradient = Checkpoint()  # type: ignore[assignment]  # an attribute of a module may be anything
    try:
        yield
    finally:
        for module, rule in before:
            module.gradient = rule
