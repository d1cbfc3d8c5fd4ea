"""A callback that makes trouble on one rank: `--plugin trouble.py --trainer.callbacks+=Trouble`."""

import math
import os
import signal

import lightning as L
import torch

from deqlight.plugin import impl

SIGNALS = ("SIGKILL", "SIGTERM", "SIGUSR1", "SIGINT", "SIGSTOP")


class Trouble(L.Callback):
    """Trouble of a kind, on a rank, in a phase.

    Args:
        kind: a signal's name, which the rank then sends itself; nan, for data that are; loss, for a loss that
            is, with gradients that are not; raise; backward, which raises behind the forward pass; half, a kill when
            half of a checkpoint is written.
        phase: setup, train, validate or save (a checkpoint, before a byte is written).
        rank: where.
        step: the optimiser step before which it happens; once.
        attempt: in which of torchrun's attempts.
    """

    def __init__(self, kind: str, phase: str = "train", rank: int = 1, step: int = 3, attempt: int = 0) -> None:
        self.kind, self.phase, self.rank, self.step = kind, phase, rank, step
        self.done = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != attempt

    def _make(self, trainer, module, phase, batch=None):
        due = trainer.global_step >= self.step or phase == "setup"
        if self.done or phase != self.phase or trainer.global_rank != self.rank or not due or trainer.sanity_checking:
            return
        self.done = True
        if self.kind in SIGNALS:
            os.kill(os.getpid(), signal.Signals[self.kind])
        elif self.kind == "nan":
            batch.inputs[1] = math.nan
        elif self.kind == "loss":
            plain = module.loss
            vars(module)["loss"] = lambda *args: vars(module).pop("loss") and plain(*args) + math.nan
        elif self.kind == "half":
            torch.save = _half
        elif self.kind == "raise":
            raise ZeroDivisionError("a plugin's own fault")
        else:
            next(iter(module.parameters())).register_hook(self._fail)

    def _fail(self, grad):
        raise ZeroDivisionError("a fault in the backward pass")

    def setup(self, trainer, pl_module, stage):
        self._make(trainer, pl_module, "setup")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._make(trainer, pl_module, "train", batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._make(trainer, pl_module, "validate", batch)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self._make(trainer, pl_module, "save")


def _half(content, file):
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


@impl
def deqlight_costs():
    """None: a callback needs no hook, a plugin has one."""
    return []
