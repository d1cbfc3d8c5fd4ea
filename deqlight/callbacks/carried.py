"""Station: what runs beside the training. A failure that the gradients themselves carry to the other ranks, as NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from ..types import Tensor

__all__ = ["carries", "constant", "marked"]


def carries(trainer: L.Trainer) -> bool:
    """Whether what is NaN on one rank is NaN on all behind the backward pass, with nothing else that could make it so.

    That is where gradients are averaged as they are: not where a hook or a scaler stands between, nor where a rank has
    but a part of them.
    """
    strategy = trainer.strategy
    plain = isinstance(strategy, DDPStrategy) and vars(strategy).get("_ddp_comm_hook") is None
    return plain and trainer.world_size > 1 and trainer.scaler is None


def constant(module: nn.Module, times: float) -> Tensor:
    """What takes the place of a loss: each parameter, times this. NaN makes all gradients NaN, on all ranks."""
    return torch.stack([(times * p).sum().abs().float() for p in module.parameters() if p.requires_grad]).sum()


def marked(output: Any) -> Any:
    """The training step's output, whose loss has a gradient of NaN if it is not finite itself, and its own if it is.

    On the device, without a look from the CPU, which would have to wait for it.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        nothing = 0.0 * loss.detach()
        loss.register_hook(lambda gradient: gradient + nothing)  # type: ignore[no-untyped-call]  # torch's
    return output
