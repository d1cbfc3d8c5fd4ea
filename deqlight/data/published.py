"""Station: the data. What all published sets of images share: fetched, decoded once, split, augmented."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..metrics import OUTSIDE
from ..types import Tensor
from .archives import Files, missing, opened, stamps
from .augment import Augmentation, Cutout, Flip, Mixup
from .decoded import Decoded, Images, Piece
from .fetching import Remote, alone, fetch
from .memory import InMemory
from .shift import RandomShift

__all__ = ["Published", "records"]

DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
"""What reading a damaged archive raises."""

AT_ONCE = 1000
"""Records that are read at a time."""


class Published(InMemory):
    """A published set of images, with its own training and test part; validation is taken from training.

    Files that lie below the root already are used as they are, archives or unpacked, and nothing is fetched unless it
    is asked for. The first start decodes the images and keeps them below `root/decoded`; later ones map them into
    memory. Batches hold numbers in [0, 1], as attacks and corruptions need them; the published means are for the
    network's stem to subtract.

    Args:
        root: the folder of all data sets.
        batch_size: samples per batch on each device.
        download: whether files that are missing are fetched; by one process of each node.
        val_fraction: share of the training part for validation; the split is stratified by class.
        split_seed: which stratified split.
        shift: training images move by up to this many pixels, with black behind them: a random crop of the padded
            image; 0 leaves them in place.
        flip: whether every other training image is mirrored.
        cutout: side of a square that is blanked in each training image, with the mean colour; 0 for none.
        mixup: α of the mixture of each training image and its class with another; 0 for none.

    Raises:
        InputError: for options that make no sense.
        DataError: when the data are prepared, for files that are missing, damaged or other ones.
    """

    channels: ClassVar[int]
    """Channels of an image."""
    side: ClassVar[int]
    """Pixels of a side of an image."""
    classes: ClassVar[int]
    """Number of classes."""
    samples: ClassVar[Mapping[str, int]]
    """How many images are published in each part."""
    mean: ClassVar[tuple[float, ...]]
    """Of each channel over the training part, in [0, 1]."""
    std: ClassVar[tuple[float, ...]]
    """Standard deviation of each channel over the training part."""

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
    ) -> None:
        changes: list[Augmentation] = [RandomShift(shift)] if shift else []
        changes += [Flip()] if flip else []
        changes += [Cutout(cutout, self.mean)] if cutout else []
        super().__init__(batch_size, changes, Mixup(mixup, self.classes) if mixup else None)
        if not 0 < val_fraction < 1:
            raise InputError(f"{type(self).__name__}: val_fraction is {val_fraction}; it must lie between 0 and 1")
        self.root, self.download = Path(root).expanduser(), download
        self.val_fraction, self.split_seed = val_fraction, split_seed

    @property
    @abstractmethod
    def remotes(self) -> tuple[Remote, ...]:
        """The files."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that are read, in their order."""
        return ("train", "test")

    @abstractmethod
    def decode(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, in pieces; in the same order on every machine."""

    def prepare_data(self) -> None:
        """Fetch what is missing if that was asked for, and decode it; later starts find all done."""
        if self.download and missing(self.remotes, self.root) is not None:
            with alone(self._lock):
                while (remote := missing(self.remotes, self.root)) is not None:
                    fetch(remote, self.root)
        self._images()

    def load(self) -> tuple[Images, dict[str, Tensor]]:
        """The images of all parts, and a stratified split of the training part."""
        images, first = self._images(), 0
        parts = {}
        for name in self.parts:
            parts[name] = torch.arange(first, first + self.samples[name])
            first += self.samples[name]
        parts["train"], parts["val"] = self._split(images.targets[parts["train"]])
        return images, parts

    @property
    def _lock(self) -> Path:
        return self.root / f".{type(self).__name__}.lock"

    def _images(self) -> Images:
        """The decoded images, which are made where there are none."""
        absent = missing(self.remotes, self.root)
        if absent is not None:
            raise DataError(
                f"{type(self).__name__}: {self.root.absolute() / absent.path} is missing. Set download=true, and the "
                f"trainer fetches it from {absent.urls[0]}; or put it there yourself"
            )
        name = "-".join((type(self).__name__, *self.parts[2:]))
        shape = (sum(self.samples[part] for part in self.parts), self.channels, self.side, self.side)
        kept = Decoded(self.root / "decoded", name, stamps(self.remotes, self.root), shape)
        images = kept.open()
        if images is None:
            with alone(self._lock):
                images = kept.open() or self._decoded(kept)
        return images

    def _decoded(self, kept: Decoded) -> Images:
        unpacked = kept.root / f"{kept.scratch.name}-unpacked"
        shutil.rmtree(kept.scratch, ignore_errors=True)
        try:
            with opened(self.remotes, self.root, unpacked) as files:
                kept.write(piece for part in self.parts for piece in self._counted(files, part))
        except DAMAGE as error:
            raise DataError(
                f"{type(self).__name__}: the files below {self.root} could not be read and decoded ({error}); if "
                "they are damaged, delete them, and fetch them anew with download=true"
            ) from error
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
            shutil.rmtree(kept.scratch, ignore_errors=True)
        images = kept.open()
        if images is None:
            raise DataError(f"{kept.folder} was written and cannot be read; is the disk full?")
        return images

    def _counted(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, if they are as many as were published and belong to its classes."""
        count, published = 0, self.samples[part]
        for images, classes in self.decode(files, part):
            count += len(images)
            if count > published:
                break
            if ((classes < OUTSIDE) | (classes >= self.classes)).any():
                raise DataError(
                    f"{type(self).__name__}: the part {part} has classes from {classes.min()} to {classes.max()}, not "
                    f"from 0 to {self.classes - 1}; its file is damaged, fetch it anew"
                )
            yield images, classes
        if count != published:
            least = "at least" if count > published else "only"
            raise DataError(
                f"{type(self).__name__}: the files of the part {part} have {least} {count} images, {published} were "
                "published; delete them, and fetch them anew with download=true"
            )

    def _split(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The positions of training and validation among samples with these classes."""
        from sklearn.model_selection import train_test_split

        try:
            train, val = train_test_split(
                range(len(targets)), test_size=self.val_fraction, stratify=targets, random_state=self.split_seed
            )
        except ValueError as error:
            raise InputError(f"{type(self).__name__}: {len(targets)} samples cannot be split so: {error}") from error
        return torch.tensor(sorted(train)), torch.tensor(sorted(val))


def records(stream: IO[bytes], name: str, size: int) -> Iterator[NDArray[np.uint8]]:
    """Records of so many bytes, `(some, size)`, until a file ends.

    Raises:
        DataError: if it ends in the middle of one.
    """
    with stream:
        while block := stream.read(AT_ONCE * size):
            if len(block) % size:
                raise DataError(f"{name} ends within a record of {size} bytes; it is damaged, fetch it anew")
            yield np.frombuffer(block, np.uint8).reshape(-1, size)
