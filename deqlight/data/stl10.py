"""Station: the data. STL-10: larger photographs, few of them with a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..metrics import OUTSIDE
from .archives import Files
from .decoded import Piece
from .fetching import Remote
from .published import Published, records

__all__ = ["STL10"]

FOLDER = "stl10_binary"
NAMES = {"train": "train", "test": "test", "predict": "unlabeled"}
"""What the files of each part are called."""


class STL10(Published):
    """5,000 photographs for training and 8,000 for the test, ten classes, 96 by 96; and 100,000 without a class.

    `stl10_binary.tar.gz`, or `stl10_binary/` unpacked, as torchvision keeps them.

    Args:
        root: the folder of all data sets.
        batch_size: samples per batch on each device.
        download: whether the archive is fetched if it is missing: 2.6 GB, those without a class included.
        val_fraction: share of the training part for validation; the split is stratified by class.
        split_seed: which stratified split.
        shift: training images move by up to this many pixels; 0 leaves them in place.
        flip: whether every other training image is mirrored.
        cutout: side of a square that is blanked in each training image, with the mean colour; 0 for none.
        mixup: α of the mixture of each training image and its class with another; 0 for none.
        unlabeled: whether those without a class are read: they are what `predict` then predicts, of the class −1.

    Raises:
        InputError: for options that make no sense.
        DataError: when the data are prepared, for files that are missing, damaged or other ones.

    Source: Coates, Lee & Ng, AISTATS 2011 (cs.stanford.edu/~acoates/stl10); checksum as torchvision has it.
    """

    channels = 3
    side = 96
    classes = 10
    samples: ClassVar[Mapping[str, int]] = {"train": 5_000, "test": 8_000, "predict": 100_000}
    md5: ClassVar[str] = "91f7769df0f17e558f3565bffb0c7dfb"
    mean = (0.4467, 0.4398, 0.4066)
    std = (0.2603, 0.2566, 0.2713)

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        download: bool = False,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        shift: int = 0,
        flip: bool = False,
        cutout: int = 0,
        mixup: float = 0.0,
        unlabeled: bool = False,
    ) -> None:
        super().__init__(root, batch_size, download, val_fraction, split_seed, shift, flip, cutout, mixup)
        self.unlabeled = unlabeled

    @property
    def parts(self) -> tuple[str, ...]:
        """Training and test, and those without a class if asked for."""
        return ("train", "test", "predict") if self.unlabeled else ("train", "test")

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """One archive."""
        urls = (
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        )
        holds = [f"{FOLDER}/{NAMES[part]}_{kind}.bin" for part in self.parts for kind in "Xy"]
        return (Remote(f"{FOLDER}.tar.gz", urls, self.md5, tuple(name for name in holds if name != NO_LABELS)),)

    def decode(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, a thousand at a time; in the file their columns come one after the other."""
        name = f"{FOLDER}/{NAMES[part]}_X.bin"
        labels = np.full(self.samples[part], OUTSIDE) if part == "predict" else self._labels(files, part)
        done = 0
        for block in records(files.open(name), name, self.channels * self.side**2):
            images = block.reshape(-1, self.channels, self.side, self.side).swapaxes(2, 3)
            end = done + len(images)
            yield images, labels[done:end]
            done = end

    def _labels(self, files: Files, part: str) -> NDArray[np.int64]:
        """The class of each image; the file counts them from 1."""
        name = f"{FOLDER}/{NAMES[part]}_y.bin"
        labels = np.frombuffer(files.read(name), np.uint8)
        if len(labels) != self.samples[part] or labels.min() < 1:
            raise DataError(f"{name} has {len(labels)} labels, not {self.samples[part]} from 1 on; fetch it anew")
        return labels.astype(np.int64) - 1


NO_LABELS = f"{FOLDER}/unlabeled_y.bin"
"""The one file that is not."""
