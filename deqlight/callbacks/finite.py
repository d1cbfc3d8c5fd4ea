"""Station: what runs beside the training. A failure on one rank stops all of them, or costs all of them one step."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.optim import Optimizer

from ..errors import InputError, NonFinite, OtherRank, SolverFailure, brief, check_word
from ..types import Tensor
from .agreement import Agreement
from .carried import carries, constant, marked
from .undo import Undo

__all__ = ["FiniteGuard"]

HINT = (
    "The step was not taken, so the weights and the last checkpoint are finite; "
    "try a smaller learning rate, trainer.gradient_clip_val, or more solver steps"
)
STOP, SKIP = POLICIES = "stop", "skip"


class FiniteGuard(L.Callback):
    """Stop at the first solve that fails, and at the first loss or gradient that is NaN or infinite.

    All ranks stop at the same step, before the optimiser takes it, and each says which rank it was, which batch and
    which samples. Where gradients are averaged over the ranks, a rank that fails goes through the backward pass with
    gradients of NaN, which are then everybody's: as long as all goes well, nothing is exchanged for it. Under other
    strategies the ranks compare notes before each backward pass, in which one would wait for the other for ever, and
    after it. A failure in the backward pass itself ends its rank, and the others at once with it, as does any failure
    of a task that takes its own optimiser steps. A gradient scaler (16-mixed) produces infinite gradients on purpose
    and skips them itself: then only the loss is looked at.

    With `policy="skip"` such a step is taken on no rank, and training goes on: weights, the optimiser's state, running
    statistics and the means of the epoch stay as they were; the schedule and the count of steps go on. Each skipped
    step is told on stderr; their number is logged as `skipped`, and checkpoints keep it.

    Args:
        policy: `stop`, or `skip` the step on all ranks.
        most: how many steps of a run may be skipped; the next failure stops it.

    Attributes:
        skipped: how many have been.

    Raises:
        InputError: for another policy and a negative `most`; at the start, for `skip` with a task that takes its own
            optimiser steps.
    """

    def __init__(self, policy: Literal["stop", "skip"] = "stop", most: int = 10) -> None:
        check_word("FiniteGuard", "policy", policy, POLICIES)
        if most < 0:
            raise InputError(f"FiniteGuard got most={most}; it is how many steps may be skipped, 0 or more")
        self.policy, self.most, self.skipped = policy, most, 0
        self._agreement, self._undo = Agreement(1), Undo()
        self._loss: Tensor | None = None
        self._ids: Tensor | None = None
        self._failure: Exception | None = None
        self._carried = False
        self._rank, self._place, self._lost = "", "", False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stand around the training step, where the trainer takes the optimiser's steps.

        Raises:
            InputError: where it does not, and steps are to be skipped.
        """
        if pl_module.automatic_optimization:
            self._agreement = Agreement.of(trainer)
            self._carried, self._failure = carries(trainer), None
            vars(pl_module)["training_step"] = self._guarded(trainer, pl_module, pl_module.training_step)
        elif self.policy == SKIP:
            raise InputError(
                f"FiniteGuard(policy='skip') got {type(pl_module).__name__}, which takes its own optimiser steps, so "
                "that none can be skipped; use policy='stop'"
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note which batch it is and, where it may be skipped, what it will change."""
        self._rank = f"rank {trainer.global_rank}, " if trainer.world_size > 1 else ""
        self._place = f"batch {batch_idx} of epoch {trainer.current_epoch}"
        self._ids = getattr(batch, "ids", None)
        if self.policy == SKIP and batch_idx % trainer.accumulate_grad_batches == 0:
            self._undo.note(pl_module)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss: one look, after the backward pass, costs a device one wait instead of two."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Refuse the step where the loss or a gradient is not finite.

        Raises:
            NonFinite: naming the first bad tensor and the step.
            OtherRank: where it was another rank's.
        """
        if not self._lost and self._bad(trainer, pl_module):
            failure, self._failure = self._failure, None
            loss = torch.zeros(()) if self._loss is None else self._loss
            blamed = failure is not None or not bool(torch.isfinite(loss))
            if failure is None:
                failure = NonFinite(f"{_culprit(pl_module, loss)} in training", step=trainer.global_step, hint=HINT)
                failure = failure.at(self._where(()) if blamed else self._place)
            self._decide(trainer, failure, blamed)
        if self._lost:  # an optimiser passes over parameters without a gradient
            self._undo.restore(pl_module)
            for parameter in pl_module.parameters():
                parameter.grad = None
        self._lost = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log how many steps have been skipped so far."""
        if self.policy == SKIP:
            pl_module.log("skipped", float(self.skipped))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the training step alone."""
        vars(pl_module).pop("training_step", None)
        self._agreement.end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the training step alone; the group ends with the process, for other ranks may be gone.

        If they are, so that none of them could be told, what failed here is said.
        """
        vars(pl_module).pop("training_step", None)
        if self._failure is not None:
            sys.stderr.write(f"error: {self._failure}\n")

    def state_dict(self) -> dict[str, Any]:
        """How many steps have been skipped."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = int(state_dict["skipped"])

    def _guarded(self, trainer: L.Trainer, module: L.LightningModule, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The training step, after which the ranks compare notes."""

        @functools.wraps(plain)
        def step(*args: Any) -> Any:
            output, failure = None, None
            try:
                output = plain(*args)
            except Exception as error:  # whatever it is, the other ranks must hear of it before they wait
                failure = error.at(self._where(error.samples)) if isinstance(error, SolverFailure) else error
            if self._carried:
                self._failure = self._failure or failure
                return marked(output) if failure is None else constant(module, math.nan)
            if self._any(failure):
                self._decide(trainer, failure, blamed=failure is not None)
                return constant(module, 0.0)
            return output

        return step

    def _bad(self, trainer: L.Trainer, module: L.LightningModule) -> bool:
        """Whether the step is to be refused, the same on all ranks."""
        gradients = [] if trainer.scaler is not None else [p.grad for p in module.parameters() if p.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        if self._carried:
            return not math.isfinite(total.item())
        if self._loss is not None:
            total = total + self._loss.float().abs()
        return self._agreement.any(not math.isfinite(total.item()))

    def _any(self, failure: Exception | None) -> bool:
        """Whether the step failed anywhere; where that cannot be learnt, this rank ends with its own failure."""
        try:
            return self._agreement.any(failure is not None)
        except RuntimeError as lost:
            if failure is not None:
                raise failure from lost
            raise

    def _decide(self, trainer: L.Trainer, failure: Exception | None, blamed: bool) -> None:
        """Raise what happened, here or elsewhere, or count a skipped step. All ranks come here together."""
        mine = (str(failure), isinstance(failure, SolverFailure)) if blamed else None
        told = [one for one in self._agreement.told(mine) if one is not None]
        diverged = all(numbers for _, numbers in told)
        if self.policy == SKIP and diverged and self.skipped < self.most:
            self.skipped, self._lost = self.skipped + 1, True
            _tell(f"step {trainer.global_step} skipped, {self.skipped} of at most {self.most}: {_first(told, failure)}")
            return
        if failure is not None and (blamed or not told):
            raise failure
        raise OtherRank(_first(told, failure), diverged=diverged)

    def _where(self, samples: Sequence[int]) -> str:
        """The batch, and the places in the data set of these samples, or of all."""
        place = f"{self._rank}{self._place}"
        if self._ids is None:
            return place
        ids = self._ids.tolist()
        return f"{place}, ids {brief([ids[i] for i in samples if i < len(ids)] or ids)}"


def _first(told: Sequence[tuple[str, bool]], failure: Exception | None) -> str:
    more = f" ({len(told) - 1} more ranks failed, too)" if len(told) > 1 else ""
    return f"{told[0][0] if told else failure}{more}"


@rank_zero_only
def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  its purpose


def _culprit(module: L.LightningModule, loss: Tensor) -> str:
    if not torch.isfinite(loss):
        return f"the loss became {loss.item()}"
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the gradient of {name} is not finite"
    return "the gradients' norm overflowed"
