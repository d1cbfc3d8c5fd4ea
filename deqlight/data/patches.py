"""Station: the data. Digits, and in the test part what is no digit: patches of photographs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError, InputError
from ..metrics import OUTSIDE
from ..types import Tensor
from .batches import Tensors, stream
from .images import Digits
from .memory import InMemory
from .shift import RandomShift

__all__ = ["PHOTOGRAPHS", "DigitsAgainstPatches", "picture"]

SIDE = 8
"""Pixels of a side of a digit, and so of a patch."""

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
GREY = (0.299, 0.587, 0.114)
"""Luma of red, green and blue (ITU-R BT.601)."""


class DigitsAgainstPatches(InMemory):
    """scikit-learn's digits, and grey patches of its two photographs, which belong to no class.

    Training and validation are those of `Digits`. The test part has its digits, and as many patches as asked for, of
    the class −1: squares from places drawn evenly over both photographs, each pixel the mean of a block, as a pixel of
    a digit is. Patches are scaled to [0, 1] as the photographs are; many show little but sky.

    Args:
        batch_size: samples per batch on each device.
        val_fraction: share of the digits for validation.
        test_fraction: share of the digits for the test.
        split_seed: which stratified split.
        shift: shift training images by up to this many pixels each epoch; 0 leaves them as they are.
        patches: how many patches.
        block: pixels of a photograph along the side of a pixel of a patch.
        data_seed: which places.

    Raises:
        InputError: for a negative number of patches, or blocks larger than the photographs have room for.

    Source: `sklearn.datasets.load_sample_images`: by danielbuechele (china.jpg) and vultilion (flower.jpg)
    on Flickr, CC BY 2.0.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        shift: int = 0,
        patches: int = 360,
        block: int = 4,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, [RandomShift(shift)] if shift else [])
        if patches < 0 or not 1 <= block <= LARGEST:
            raise InputError(
                f"DigitsAgainstPatches: patches is {patches}, block {block}; patches must be at least 0, a block has "
                f"from 1 to {LARGEST} pixels"
            )
        self._digits = Digits(batch_size, val_fraction, test_fraction, split_seed, shift)
        self.patches, self.block, self.data_seed = patches, block, data_seed

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._digits.classes

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self._digits.channels

    def load(self) -> tuple[Tensors, dict[str, Tensor]]:
        """The digits in their parts, and behind them the patches, in the test part."""
        digits, parts = self._digits.load()
        patches = self._patches()
        inputs = torch.cat([digits.inputs, patches])
        targets = torch.cat([digits.targets, torch.full((len(patches),), OUTSIDE)])
        outside = torch.arange(len(digits), len(digits) + len(patches))
        return Tensors(inputs, targets), {**parts, "test": torch.cat([parts["test"], outside])}

    def _patches(self) -> Tensor:
        """The patches, `(patches, 1, 8, 8)`, in [0, 1]."""
        photographs = [picture(name) @ np.array(GREY) / 255.0 for name in PHOTOGRAPHS]  # (height, width)
        rng, side = stream(self.data_seed), SIDE * self.block
        found = np.empty((self.patches, 1, SIDE, SIDE))
        for patch in found:
            image = photographs[rng.integers(len(photographs))]
            row, column = (rng.integers(0, size - side + 1) for size in image.shape)
            cut = image[row : row + side, column : column + side]
            patch[0] = cut.reshape(SIDE, self.block, SIDE, self.block).mean((1, 3))
        return torch.from_numpy(found).float()


def picture(name: str) -> NDArray[np.uint8]:
    """A photograph of scikit-learn, `(height, width, 3)`.

    Raises:
        DataError: without Pillow, which reads it.
    """
    from sklearn.datasets import load_sample_image

    try:
        pixels: NDArray[np.uint8] = load_sample_image(name)
    except ImportError as error:
        raise DataError(f"{name} is a JPEG, which Pillow reads: pip install 'deqlight[images]'") from error
    return pixels


LARGEST = 53
"""Pixels of a block: eight of them are less than the photographs' height of 427."""
