"""Station: what runs beside the training. Ranks with different plugins or checkpoints must not train together."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import lightning as L

from ..errors import CheckpointError, PluginError
from .agreement import of_all_ranks

__all__ = ["CheckpointParity", "PluginParity"]

Manifest = Sequence[tuple[str, str]]
TAIL = 2**16
"""Bytes at the end of a checkpoint that are compared: the list of its parts, with a sum over the content of each."""


class PluginParity(L.Callback):
    """Compare (plugin, version) over the ranks, once, before anything runs.

    Args:
        manifest: the pairs of this process.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = tuple((str(name), str(version)) for name, version in manifest)
        self._checked = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Exchange the lists; a single process has nothing to compare.

        Raises:
            PluginError: naming the rank that differs, and in what.
        """
        if self._checked or trainer.world_size < 2:
            return
        self._checked = True
        compare(of_all_ranks(self._manifest, trainer.world_size))


class CheckpointParity(L.Callback):
    """Compare the checkpoint that each rank is to go on from, once, before anything is loaded.

    Ranks that were not started by each other look for the newest one on their own, and where a file system is slow to
    show what another machine has written they may find another one: weights would come from the first rank, and the
    optimiser's numbers from each its own. The content is compared, not the name: copies are as good.

    Args:
        path: that of this process, None where it begins afresh.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Exchange what they have found; a single process has nothing to compare.

        Raises:
            CheckpointError: naming what each rank has.
        """
        if trainer.world_size < 2:
            return
        found = of_all_ranks((_content(self._path), str(self._path or "none")), trainer.world_size)
        if len({content for content, _ in found}) > 1:
            told = "; ".join(f"rank {rank} has {path}" for rank, (_, path) in enumerate(found))
            raise CheckpointError(
                f"the ranks would go on from different checkpoints: {told}; give all the same --ckpt_path FILE, in a "
                "folder that every machine sees"
            )


def _content(path: Path | None) -> tuple[int, int] | None:
    """The size of a file and a sum over its end; None for none and for a folder, whose parts differ by rights."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        return size, zlib.crc32(file.read())


def compare(manifests: Sequence[Manifest]) -> None:
    """Refuse lists that differ; the commonest is taken as right.

    Raises:
        PluginError: naming the first rank that differs, and in what.
    """
    usual = Counter(tuple(map(tuple, manifest)) for manifest in manifests).most_common(1)[0][0]
    for rank, manifest in enumerate(manifests):
        odd = set(map(tuple, manifest)) ^ set(usual)
        if odd:
            mine = sorted(f"{name} {version}" for name, version in odd & set(map(tuple, manifest)))
            theirs = sorted(f"{name} {version}" for name, version in odd - set(map(tuple, manifest)))
            raise PluginError(
                f"rank {rank} has other plugins than the rest: it has {', '.join(mine) or 'nothing'} where they have "
                f"{', '.join(theirs) or 'nothing'}; install the same plugins on every machine"
            )
