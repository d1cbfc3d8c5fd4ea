"""Station 1, the checkpoint's way to disk: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ..errors import CheckpointError
from . import checkpoint

__all__ = ["AtomicIO"]


class AtomicIO(TorchCheckpointIO):
    """Writes beside the target, then renames: a reader, or a crash, sees the old file or the new one, never a part.

    Lightning's own way goes through the system's temporary folder, which may lie on another file system, and passes
    over a missing permission in silence.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: if it cannot be written; an older file of that name is still whole then.
        """
        target = Path(path)
        partial = target.with_name(f"{target.name}.tmp.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            room = _room(partial)
            partial.unlink(missing_ok=True)
            raise CheckpointError(f"checkpoint {target} cannot be written: {error}; {room}is the disk full?") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint on the CPU; Lightning moves the tensors on.

        Raises:
            CheckpointError: for a file that is missing, damaged or foreign.
        """
        return checkpoint.load(Path(path), weights_only=weights_only is not False)


def _room(path: Path) -> str:
    """What is left on the disk: torch does not say it."""
    try:
        return f"{shutil.disk_usage(path.parent).free / 2**20:.1f} MiB are free there; "
    except OSError:
        return ""


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; not every system can open a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
