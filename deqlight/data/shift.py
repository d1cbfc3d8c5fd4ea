"""Station: the data. The one augmentation that every image bears: a shift by a few pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor
from .augment import Augmentation

__all__ = ["RandomShift"]


@dataclass(frozen=True)
class RandomShift(Augmentation):
    """Shift each image by up to `pixels` in either direction, with zeros where nothing was.

    The same as a random crop, as large as the image, of the image padded with `pixels` zeros on each side.
    """

    pixels: int
    stream: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise InputError(f"a shift by {self.pixels} pixels is none; give at least 1, or no augmentation")

    def draw(self, rng: np.random.Generator, samples: int) -> Tensor:
        """The offsets of a whole epoch, `(samples, 2)`, in 0 ... 2 * pixels."""
        return torch.from_numpy(rng.integers(0, 2 * self.pixels + 1, (samples, 2)))

    def __call__(self, images: Tensor, offsets: Tensor) -> Tensor:
        """The images `(batch, channels, height, width)`, each shifted by its row of `offsets` `(batch, 2)`."""
        height, width = images.shape[2:]
        padded = F.pad(images, [self.pixels] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (batch, channels, offsets, offsets, height, width)
        return windows[torch.arange(len(images)), :, offsets[:, 0], offsets[:, 1]]
