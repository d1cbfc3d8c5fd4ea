"""Station: what runs beside the training. Two checkpoints, `best` and `last`, and an orderly end on a signal."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from ..errors import CheckpointError, InputError
from ..types import Tensor
from .agreement import Agreement, of_all_ranks

__all__ = ["SIGNALS", "Best", "Last", "Stopped"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if name in dir(signal))
RNG = "rng"


class Stopped(SystemExit):
    """Training ended between two batches because a signal asked for it; the exit code is 128 + the signal's number.

    Attributes:
        signal: the signal.
        path: the checkpoint that holds everything until here, None where nothing had been trained yet.
        step: optimiser steps taken.
    """

    def __init__(self, number: int, path: Path | None, step: int) -> None:
        super().__init__(128 + number)
        self.signal, self.path, self.step = signal.Signals(number), path, step


class Best(ModelCheckpoint):
    """Keeps the best epoch's checkpoint as `best.ckpt`; a resumed run takes the old best over into its own folder.

    Args:
        monitor: which logged metric says what is best.
        mode: whether larger or smaller is better.
    """

    def __init__(self, monitor: str = "val/accuracy", mode: Literal["max", "min"] = "max") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, auto_insert_metric_name=False, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was best so far, file and score."""
        old, score = Path(state_dict["best_model_path"]), state_dict["best_model_score"]
        if score is None or not old.is_file():
            return
        new = Path(str(self.dirpath)) / "best.ckpt"
        if not new.exists():
            _copy(old, new)
        path = str(new)
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": path,
                "kth_best_model_path": path,
                "best_k_models": {path: score},
            }
        )


class Last(Checkpoint):
    """Writes `last.ckpt` at the end of each epoch, and between two batches where a signal asks to stop.

    Ctrl-C, SIGTERM, SIGUSR1 (what schedulers send before they take a machine away), to any rank. A signal only raises a
    flag. The ranks send each other their flags before each batch and read them after it, so that none waits; they save
    together and stop together, in the last batch of an epoch at its end, so that the validation is not lost. Because
    the state of the random generators is saved as well, and the loader knows its place, a resumed run goes on as if
    never stopped. A second Ctrl-C stops at once, without saving.

    Args:
        dirpath: where to write; None takes `checkpoints` in the run's folder.
        every_n_steps: write after each so many steps of the optimiser, too: that is the most that a kill can cost.

    Raises:
        InputError: for less than one step.
    """

    def __init__(self, dirpath: str | None = None, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise InputError(f"Last got every_n_steps={every_n_steps}; give 1 or more, or null for each epoch alone")
        self.dirpath, self.every_n_steps = dirpath, every_n_steps
        self._saved = 0
        self._asked: int | None = None
        self._agreement, self._answer = Agreement(1), self._is_asked
        self._rng: list[dict[str, Tensor]] = []
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the folder, and fail before the training if nothing can be written there.

        Raises:
            CheckpointError: naming the folder.
        """
        if stage != "fit":
            return
        folder = trainer.log_dir  # asks all ranks: every rank must come here
        self.dirpath = self.dirpath or str(Path(folder or trainer.default_root_dir) / "checkpoints")
        if trainer.is_global_zero:
            _probe(Path(self.dirpath))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random state of every rank."""
        mine = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            mine["cuda"] = torch.cuda.get_rng_state(pl_module.device)
        checkpoint[RNG] = of_all_ranks(mine, trainer.world_size)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random state until the training starts."""
        self._rng = checkpoint.get(RNG, [])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the random state back, and listen for signals, from here on in place of Lightning's handlers.

        Those of Lightning speak to other ranks from within the handler, where each rank is somewhere else.
        """
        self._saved = trainer.global_step
        self._agreement = Agreement.of(trainer)
        if trainer.global_rank < len(self._rng):
            state = self._rng[trainer.global_rank]
            torch.set_rng_state(state["cpu"].cpu())
            if pl_module.device.type == "cuda" and "cuda" in state:
                torch.cuda.set_rng_state(state["cuda"].cpu(), pl_module.device)
        self._rng = []
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the other ranks whether to stop; the answer has come when the batch is done."""
        self._answer = self._agreement.ask(self._is_asked)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if asked; not between accumulated gradients, nor at an epoch's end, which has its own place."""
        asked = self._answer()
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if asked:
            self._save(trainer)
            self._stop(trainer)
        if self.every_n_steps and trainer.global_step - self._saved >= self.every_n_steps:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and stop here if asked."""
        self._save(trainer)
        if self._agreement.ask(self._is_asked)():
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back."""
        self._release()
        self._agreement.end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._release()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = number

    def _is_asked(self) -> bool:
        return self._asked is not None

    def _stop(self, trainer: L.Trainer) -> None:
        asked = [number for number in self._agreement.told(self._asked) if number]
        raise Stopped(asked[0], self._path(), trainer.global_step)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._path())
        self._saved = trainer.global_step

    def _path(self) -> Path:
        return Path(str(self.dirpath)) / "last.ckpt"

    def _release(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


@rank_zero_only
def _copy(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    partial = new.with_name(f"{new.name}.tmp.{os.getpid()}")
    shutil.copyfile(old, partial)
    partial.replace(new)


def _probe(folder: Path) -> None:
    """Write and remove a file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            f"no checkpoint can be written to {folder}: {error.strerror or error}; choose another folder with --runs"
        ) from error
