"""Station: the data. Handwritten digits, and clothes in their place, in the idx format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .archives import Files
from .decoded import Piece
from .fetching import Remote
from .published import Published

__all__ = ["MNIST", "FashionMNIST"]

UNSIGNED = 8
"""The idx format's number for bytes; the number of axes follows it."""

NAMES = {"train": "train", "test": "t10k"}


class Idx(Published):
    """What `MNIST` and its successors share: four files in the idx format."""

    sums: ClassVar[tuple[str, ...]]
    """The checksums of images and labels of the training part, and those of the test part."""
    channels = 1
    side = 28
    classes = 10
    samples: ClassVar[Mapping[str, int]] = {"train": 60_000, "test": 10_000}

    def decode(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, at once."""
        paths = [f"{self._folder}/{name}" for name in _names(part)]
        images, labels = (_idx(files.read(path), path, axes) for path, axes in zip(paths, (3, 1), strict=True))
        if images.shape[1:] != (self.side, self.side) or len(images) != len(labels):
            raise DataError(
                f"{type(self).__name__}, part {part}: there are {len(images)} images of {images.shape[1:]} pixels and "
                f"{len(labels)} labels; as many are needed, of {(self.side, self.side)} pixels: fetch the files anew"
            )
        yield images[:, None], labels.astype(np.int64)

    @property
    def _folder(self) -> str:
        return f"{type(self).__name__}/raw"

    def _files(self, *mirrors: str) -> tuple[Remote, ...]:
        """Images and labels of both parts, where torchvision keeps them."""
        found, names = [], [name for part in self.parts for name in _names(part)]
        for name, md5 in zip(names, self.sums, strict=True):
            path = f"{self._folder}/{name}"
            found.append(Remote(f"{path}.gz", tuple(f"{mirror}{name}.gz" for mirror in mirrors), md5, (path,)))
        return tuple(found)


class MNIST(Idx):
    """70,000 handwritten digits, 28 by 28, grey: `MNIST/raw/train-images-idx3-ubyte.gz` and so on, or unpacked.

    The first address is PyTorch's mirror; the authors' own has refused downloads since 2024.

    Source: LeCun, Cortes & Burges, The MNIST database of handwritten digits (yann.lecun.com/exdb/mnist); checksums as
    torchvision has them.
    """

    sums = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
    mean = (0.1307,)
    std = (0.3081,)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """Four files."""
        return self._files(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        )


class FashionMNIST(Idx):
    """70,000 pieces of clothing, 28 by 28, grey: `FashionMNIST/raw/train-images-idx3-ubyte.gz` and so on, or unpacked.

    Source: Xiao, Rasul & Vollgraf 2017 (arXiv 1708.07747), MIT licence; checksums as torchvision has them.
    """

    sums = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
    mean = (0.2860,)
    std = (0.3530,)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """Four files."""
        return self._files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")


def _names(part: str) -> tuple[str, str]:
    return f"{NAMES[part]}-images-idx3-ubyte", f"{NAMES[part]}-labels-idx1-ubyte"


def _idx(data: bytes, name: str, axes: int) -> NDArray[np.uint8]:
    """The array in an idx file of bytes with so many axes.

    Raises:
        DataError: for another magic number, and for more or fewer bytes than its header tells.
    """
    magic, start = bytes((0, 0, UNSIGNED, axes)), 4 * (1 + axes)
    if data[:4] != magic or len(data) < start:
        raise DataError(
            f"{name} begins with {data[:4].hex()}, not {magic.hex()}; it is no such idx file, fetch it anew"
        )
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    if len(data) - start != np.prod(shape):
        raise DataError(
            f"{name} has {len(data) - start} bytes where its header tells {' × '.join(map(str, shape))}; it is "
            "damaged, fetch it anew"
        )
    array: NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    return array
