"""Station: the data. Images that were decoded once, and are mapped into memory from then on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..types import Tensor
from .batches import Batch

__all__ = ["Decoded", "Images", "Piece"]

FORMAT = 1
"""Another number makes all that was kept stale."""

WHITE = 255.0
"""The largest value of a pixel."""

Piece: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images `(some, channels, height, width)`, and their classes `(some,)`."""


class Images:
    """Images in memory or mapped into it, as bytes; an index tensor gives a batch of numbers in [0, 1].

    Args:
        images: `(samples, channels, height, width)`.
        targets: class numbers, `(samples,)`.
    """

    def __init__(self, images: NDArray[np.uint8], targets: Tensor) -> None:
        self.images, self.targets = np.asarray(images), targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> Batch:
        pixels = torch.from_numpy(self.images[index.numpy()])  # a copy of these alone
        return Batch(pixels.float().div_(WHITE), self.targets[index], index)


@dataclass(frozen=True)
class Decoded:
    """Where the images of a data set are kept once they are decoded.

    A folder's name says what the images were made of: others are stale, and go when new ones come. A folder gets its
    name when all is in it.

    Args:
        root: the folder of all data sets.
        name: of the data set.
        made_of: the files that were read: names, sizes and times of change.
        shape: of all images, `(samples, channels, height, width)`.
    """

    root: Path
    name: str
    made_of: Sequence[tuple[str, int, int]]
    shape: tuple[int, int, int, int]

    @property
    def folder(self) -> Path:
        """Where they are kept."""
        key: list[Any] = [FORMAT, self.shape, [list(stamp) for stamp in self.made_of]]
        return self.root / f"{self.name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:DIGITS]}"

    @property
    def scratch(self) -> Path:
        """Where they grow; what is left there is of a run that was ended."""
        return self.root / f".{self.name}"

    def open(self) -> Images | None:
        """The images, mapped into memory; None where they are not there, or not whole."""
        try:
            images = np.load(self.folder / IMAGES, mmap_mode="r")
            targets = np.load(self.folder / TARGETS)
        except (OSError, ValueError, EOFError):
            return None
        whole = images.shape == self.shape and targets.shape == self.shape[:1]
        return Images(images, torch.from_numpy(targets)) if whole and images.dtype == np.uint8 else None

    def write(self, pieces: Iterable[Piece]) -> None:
        """Keep the images, which come in pieces, and take away stale ones; one process at a time."""
        scratch = self.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        images = np.lib.format.open_memmap(scratch / IMAGES, "w+", np.uint8, self.shape)
        targets, done = np.empty(len(images), np.int64), 0
        for pixels, classes in pieces:
            end = done + len(pixels)
            images[done:end], targets[done:end] = pixels, classes
            done = end
        images.flush()
        np.save(scratch / TARGETS, targets)
        for stale in self.root.glob(f"{self.name}-{'?' * DIGITS}"):
            shutil.rmtree(stale)
        scratch.rename(self.folder)


IMAGES, TARGETS = "images.npy", "targets.npy"
DIGITS = 16
"""Of the checksum in a folder's name."""
