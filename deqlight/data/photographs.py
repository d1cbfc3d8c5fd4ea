"""Station: the data. Pieces of two photographs, and the question where they come from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..types import Tensor
from .augment import Flip
from .batches import stream
from .decoded import Images
from .memory import InMemory
from .patches import PHOTOGRAPHS, picture
from .shift import RandomShift

__all__ = ["Patches"]

SIDE = 32
"""Pixels of a side of a patch."""

TILE = 48
"""Pixels of a side of a tile: whole blocks of a JPEG, which are 16 wide, so that no block lies in two tiles."""

FIELDS = (2, 2)
"""Rows and columns of the fields of a photograph."""

TILES = (4, 6)
"""Rows and columns of the tiles of a field."""

SHARES = {"train": 16, "val": 4, "test": 4}
"""How many of the tiles of a field belong to each part."""


class Patches(InMemory):
    """Colour patches of 32 by 32 pixels from scikit-learn's two photographs: nothing to download.

    Each photograph has four fields, and the class of a patch is the field that it comes from, one of eight: much sky,
    or wood, or petals. A field has 24 tiles of 48 by 48 pixels; a patch lies within a tile, and a tile belongs to one
    part, so that no pixel of a patch for the test was seen in training. Every class has as many patches, and every tile
    of a class and part as many as the next, or one less.

    Args:
        batch_size: samples per batch on each device.
        train: number of training patches of each class.
        val: number of patches of each class for validation.
        test: number of patches of each class for the test.
        shift: training patches move by up to this many pixels; 0 leaves them in place.
        flip: whether every other training patch is mirrored.
        data_seed: which tiles belong to which part, and which places in them.

    Raises:
        InputError: for numbers below 1.
        DataError: without Pillow, at the start.

    Source: `sklearn.datasets.load_sample_images`: by danielbuechele (china.jpg) and vultilion (flower.jpg)
    on Flickr, CC BY 2.0.
    """

    def __init__(
        self,
        batch_size: int = 64,
        train: int = 300,
        val: int = 75,
        test: int = 100,
        shift: int = 0,
        flip: bool = False,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, [*([RandomShift(shift)] if shift else []), *([Flip()] if flip else [])])
        self.sizes, self.data_seed = {"train": train, "val": val, "test": test}, data_seed
        for name, count in self.sizes.items():
            if count < 1:
                raise InputError(f"Patches: {name} is {count}; at least 1 is needed")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(PHOTOGRAPHS) * FIELDS[0] * FIELDS[1]

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 3

    def load(self) -> tuple[Images, dict[str, Tensor]]:
        """The patches: class by class, and of each class its parts one after the other."""
        rng, images = stream(self.data_seed), []
        names: list[str] = []
        for field in _fields():
            tiles = [field[tile] for tile in rng.permutation(len(field))]
            for part, share in SHARES.items():
                own, tiles = tiles[:share], tiles[share:]
                images += [_patch(own[k % share], rng) for k in range(self.sizes[part])]
                names += [part] * self.sizes[part]
        targets = torch.arange(self.classes).repeat_interleave(sum(self.sizes.values()))
        parts = {part: torch.tensor([k for k, name in enumerate(names) if name == part]) for part in SHARES}
        return Images(np.stack(images), targets), parts


def _fields() -> list[NDArray[np.uint8]]:
    """The tiles of each class, `(24, 3, 48, 48)`."""
    height, width = (TILE * tiles for tiles in TILES)
    found = []
    for name in PHOTOGRAPHS:
        pixels = picture(name).transpose(2, 0, 1)  # (3, height, width)
        for row, column in np.ndindex(*FIELDS):
            field = pixels[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
            tiles = field.reshape(3, TILES[0], TILE, TILES[1], TILE).transpose(1, 3, 0, 2, 4)
            found.append(tiles.reshape(-1, 3, TILE, TILE))
    return found


def _patch(tile: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A patch from anywhere in a tile, `(3, 32, 32)`."""
    row, column = rng.integers(0, TILE - SIDE + 1, 2)
    return tile[:, row : row + SIDE, column : column + SIDE]
