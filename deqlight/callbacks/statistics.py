"""Station: what runs beside the training. Running statistics go to the other ranks when they are read, not before."""

from __future__ import annotations

import lightning as L
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["RunningStatistics"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class RunningStatistics(L.Callback):
    """Under `ddp`, hand out the first rank's running statistics before each validation, and not before each batch.

    DistributedDataParallel hands out all buffers before each forward pass, and the ranks wait for that. Training does
    not read the running statistics of batch norms, and checkpoints hold the first rank's either way. A network with any
    other buffer is left to DistributedDataParallel: its training may read it.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch that off, once all ranks have begun with the same buffers."""
        if isinstance(trainer.model, DistributedDataParallel) and _are_all(pl_module):
            trainer.model.broadcast_buffers = False

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All ranks validate with what the checkpoint has."""
        if isinstance(trainer.model, DistributedDataParallel) and not trainer.model.broadcast_buffers:
            for buffer in pl_module.buffers():
                dist.broadcast(buffer, 0)


def _are_all(module: nn.Module) -> bool:
    """Whether all buffers are running statistics."""
    return not any(list(part.buffers(recurse=False)) for part in module.modules() if not isinstance(part, NORMS))
