"""Station: the data. Tiny ImageNet: JPEGs in folders, two hundred classes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .archives import Files
from .decoded import Piece
from .fetching import Remote
from .published import AT_ONCE, Published

__all__ = ["TinyImageNet"]

FOLDER = "tiny-imagenet-200"
LIST, ANNOTATIONS = f"{FOLDER}/wnids.txt", f"{FOLDER}/val/val_annotations.txt"


class TinyImageNet(Published):
    """110,000 photographs in two hundred classes, 64 by 64: `tiny-imagenet-200.zip`, or its folder unpacked.

    The labels of its test part were never published: what it calls `val`, 10,000 photographs, is the test part here,
    and validation is taken from training. Class numbers are places in its `wnids.txt`. Grey photographs become RGB.
    Pillow reads the JPEGs: the extra `images`.

    Source: Le & Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015; the checksum is the one that
    loaders in wide use agree on, none was published.
    """

    channels = 3
    side = 64
    classes = 200
    samples: ClassVar[Mapping[str, int]] = {"train": 100_000, "test": 10_000}
    md5: ClassVar[str] = "90528d7ca1a48142e341f4ef8d21d0de"
    mean = (0.4802, 0.4481, 0.3975)
    std = (0.2770, 0.2691, 0.2821)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """One archive."""
        holds = (LIST, ANNOTATIONS, f"{FOLDER}/val/images", f"{FOLDER}/train")
        return (Remote(f"{FOLDER}.zip", ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",), self.md5, holds),)

    def decode(self, files: Files, part: str) -> Iterator[Piece]:
        """The images of a part, a thousand at a time."""
        wnids = files.read(LIST).decode().split()
        if len(wnids) != self.classes:
            raise DataError(f"{LIST} lists {len(wnids)} classes, not {self.classes}; it is damaged, fetch it anew")
        names = _train(files, wnids) if part == "train" else _val(files, wnids)
        while some := list(islice(names, AT_ONCE)):
            images = np.stack([_pixels(files, name, self.side) for name, _ in some])
            yield images, np.array([number for _, number in some])


def _train(files: Files, wnids: list[str]) -> Iterator[tuple[str, int]]:
    """The names of the training images, and their classes."""
    for number, wnid in enumerate(wnids):
        folder = f"{FOLDER}/train/{wnid}/images"
        yield from ((f"{folder}/{name}", number) for name in files.names(folder))


def _val(files: Files, wnids: list[str]) -> Iterator[tuple[str, int]]:
    """The same of those that it calls `val`: a line for each, the name, the class, and a box."""
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    for line in files.read(ANNOTATIONS).decode().splitlines():
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in numbers or "/" in name:
            raise DataError(f"{ANNOTATIONS} has the line {line!r}; a file and one of the classes are needed")
        yield f"{FOLDER}/val/images/{name}", numbers[wnid]


def _pixels(files: Files, name: str, side: int) -> NDArray[np.uint8]:
    """An image, `(3, side, side)`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("TinyImageNet is made of JPEGs, which Pillow reads: pip install 'deqlight[images]'") from error
    try:
        with Image.open(io.BytesIO(files.read(name)), formats=("JPEG",)) as image:
            pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # the second is what Pillow makes of a broken header
        raise DataError(f"{name} is no JPEG that can be read ({error}); fetch the data anew") from error
    if pixels.shape != (side, side, 3):
        raise DataError(f"{name} has {pixels.shape[1]} × {pixels.shape[0]} pixels, not {side} × {side}; fetch it anew")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
