"""Station: what runs beside the training. A NaN ends the run before it reaches a weight."""

from __future__ import annotations

import math

import lightning as L
import torch
from torch.optim import Optimizer

from ..errors import NonFinite
from ..types import Tensor

__all__ = ["FiniteGuard"]

HINT = (
    "The step was not taken, so the weights and the last checkpoint are finite; "
    "try a smaller learning rate, trainer.gradient_clip_val, or more solver steps"
)


class FiniteGuard(L.Callback):
    """Stop at the first loss or gradient that is NaN or infinite, before the optimiser uses it.

    Gradients are looked at after the ranks have exchanged them, so every rank stops at the same step. A gradient
    scaler (16-mixed) produces infinite gradients on purpose and skips them itself: then only the loss is looked at.
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the loss: one look, after the backward pass, costs a device one wait instead of two."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Refuse the step where the loss or a gradient is not finite.

        Raises:
            NonFinite: naming the first bad tensor and the step.
        """
        loss = torch.zeros(()) if self._loss is None else self._loss
        gradients = [] if trainer.scaler is not None else [p.grad for p in pl_module.parameters() if p.grad is not None]
        total = loss.float().abs() + (torch.nn.utils.get_total_norm(gradients) if gradients else 0.0)
        if math.isfinite(total.item()):
            return
        raise NonFinite(f"{_culprit(pl_module, loss)} in training", step=trainer.global_step, hint=HINT)


def _culprit(module: L.LightningModule, loss: Tensor) -> str:
    if not torch.isfinite(loss):
        return f"the loss became {loss.item()}"
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the gradient of {name} is not finite"
    return "the gradients' norm overflowed"
