"""Station: the data. CIFAR's tiny photographs, from the binary version: nothing that it holds is executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from .archives import Files
from .decoded import Piece
from .fetching import Remote
from .published import Published, records

__all__ = ["CIFAR10", "CIFAR100"]


class Cifar(Published):
    """What both share: records of labels and an image's channels, one after the other."""

    md5: ClassVar[str]
    """The checksum of the archive."""
    files: ClassVar[Mapping[str, tuple[str, ...]]]
    """The files of each part."""
    labels: ClassVar[int]
    """Labels of a record; the last is the class."""
    channels = 3
    side = 32
    samples: ClassVar[Mapping[str, int]] = {"train": 50_000, "test": 10_000}

    def decode(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, a thousand at a time."""
        size = self.labels + self.channels * self.side**2
        for name in self.files[part]:
            for block in records(files.open(name), name, size):
                images = block[:, self.labels :].reshape(-1, self.channels, self.side, self.side)
                yield images, block[:, self.labels - 1].astype(np.int64)

    def _archive(self, name: str) -> tuple[Remote, ...]:
        """The university's server has moved, and answers to both addresses."""
        urls = (f"https://www.cs.toronto.edu/~kriz/{name}", f"https://cave.cs.toronto.edu/kriz/{name}")
        return (Remote(name, urls, self.md5, tuple(file for part in self.parts for file in self.files[part])),)


class CIFAR10(Cifar):
    """60,000 photographs in ten classes, 32 by 32: `cifar-10-binary.tar.gz`, or `cifar-10-batches-bin/` unpacked.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; checksum and format as
    www.cs.toronto.edu/~kriz/cifar.html has them.
    """

    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
        "test": ("cifar-10-batches-bin/test_batch.bin",),
    }
    labels = 1
    classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """One archive."""
        return self._archive("cifar-10-binary.tar.gz")


class CIFAR100(Cifar):
    """60,000 photographs in a hundred classes, 32 by 32: `cifar-100-binary.tar.gz`, or `cifar-100-binary/` unpacked.

    The classes are the fine ones.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; checksum and format as
    www.cs.toronto.edu/~kriz/cifar.html has them.
    """

    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("cifar-100-binary/train.bin",),
        "test": ("cifar-100-binary/test.bin",),
    }
    labels = 2  # the coarse one, and the fine one
    classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """One archive."""
        return self._archive("cifar-100-binary.tar.gz")
