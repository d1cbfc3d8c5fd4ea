"""Station: the trial. Images made worse, a little or a lot, the same way whatever their batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from ..brownian import Key, Stream
from ..errors import InputError
from ..types import Tensor
from .images import check_images

__all__ = ["SEVERITIES", "Blur", "Brightness", "Contrast", "Corruption", "Occlusion", "PixelNoise", "Pixelate"]

SEVERITIES = 5
"""How many severities there are, 1 being the least."""


class Corruption(ABC):
    """A way to make images worse; a value that configs name. What is random is a function of (seed, severity, id)."""

    levels: ClassVar[tuple[float, ...]]
    """The parameter at severities 1 to 5."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return type(self).__name__.lower()

    @abstractmethod
    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """The images, worse by `level`; `stream` has the numbers of each."""

    def __call__(self, images: Tensor, severity: int, ids: Tensor, seed: int = 0) -> Tensor:
        """The images made worse, in [0, 1].

        Args:
            images: `(batch, channels, height, width)`, in [0, 1].
            severity: 1 to 5.
            ids: what each image is known by, `(batch,)`.
            seed: another seed, other noise.

        Raises:
            InputError: for another severity, and for images that are not in [0, 1].
            ShapeError: for what are no images.
        """
        if severity not in range(1, SEVERITIES + 1):
            raise InputError(f"{type(self).__name__} got severity={severity!r}; it must be 1 to {SEVERITIES}")
        check_images(type(self).__name__, images)
        stream = Stream(Key(seed, severity, ids), 0)
        return self.apply(images, self.levels[severity - 1], stream).clamp(0.0, 1.0)


@dataclass(frozen=True)
class PixelNoise(Corruption):
    """Gaussian noise in each pixel, of standard deviation 0.05, 0.1, 0.15, 0.2, 0.3."""

    levels: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.15, 0.2, 0.3)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """Images and noise."""
        return images + level * stream.normal(1, images)[:, 0]


@dataclass(frozen=True)
class Blur(Corruption):
    """Gaussian blur of width 0.4, 0.6, 0.8, 1.0, 1.4 pixels; the border's pixels go on beyond it."""

    levels: ClassVar[tuple[float, ...]] = (0.4, 0.6, 0.8, 1.0, 1.4)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """Rows and columns, one after the other."""
        reach = math.ceil(3 * level)
        places = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        weights = torch.exp(-0.5 * (places / level) ** 2)
        weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
        padded = F.pad(images, [reach] * 4, mode="replicate")
        rows = F.conv2d(padded, weights, groups=images.shape[1])
        return F.conv2d(rows, weights.mT, groups=images.shape[1])


@dataclass(frozen=True)
class Contrast(Corruption):
    """Less contrast: each image is moved towards its own mean, to 0.75, 0.5, 0.4, 0.3, 0.15 of its distance."""

    levels: ClassVar[tuple[float, ...]] = (0.75, 0.5, 0.4, 0.3, 0.15)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """The means, and a share of what lies beside them."""
        means = images.mean((1, 2, 3), keepdim=True)
        return means + level * (images - means)


@dataclass(frozen=True)
class Brightness(Corruption):
    """More light: 0.1, 0.2, 0.3, 0.4, 0.5 is added to each pixel, and white stays white."""

    levels: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.3, 0.4, 0.5)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """The images and the light."""
        return images + level


@dataclass(frozen=True)
class Pixelate(Corruption):
    """Coarser pixels: 0.8, 0.65, 0.5, 0.4, 0.25 as many along height and width, each the mean of what it covers."""

    levels: ClassVar[tuple[float, ...]] = (0.8, 0.65, 0.5, 0.4, 0.25)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """The means of what a coarse pixel covers, and of those what a fine one covers."""
        for _ in range(2):  # rows, and then columns in their place
            fine = images.shape[-2]
            coarse = max(round(level * fine), 1)
            images = (_boxes(coarse, fine, images) @ (_boxes(fine, coarse, images) @ images)).mT
        return images


@dataclass(frozen=True)
class Occlusion(Corruption):
    """A black square somewhere, of 1/4, 3/8, 1/2, 5/8, 3/4 of the image's height and width."""

    levels: ClassVar[tuple[float, ...]] = (0.25, 0.375, 0.5, 0.625, 0.75)

    def apply(self, images: Tensor, level: float, stream: Stream) -> Tensor:
        """The images with a square each, which lies inside."""
        corner = stream.uniform(2, images[:, :1, :1, :1])  # (batch, 2, 1, 1, 1)
        inside = []
        for axis, length in enumerate(images.shape[2:]):
            side = max(round(level * length), 1)
            first = (corner[:, axis, :, 0] * (length - side + 1)).floor()  # (batch, 1, 1)
            place = torch.arange(length, device=images.device)
            inside.append((place >= first) & (place < first + side))
        rows, columns = inside
        return images * ~(rows[..., None] & columns[..., None, :])


def _boxes(start: int, end: int, like: Tensor) -> Tensor:
    """Makes `end` pixels of `start` on one stretch, each the mean of what it covers: `(end, start)`."""
    old, new = (torch.arange(number + 1, dtype=like.dtype, device=like.device) / number for number in (start, end))
    overlap = torch.minimum(old[1:], new[1:, None]) - torch.maximum(old[:-1], new[:-1, None])
    return overlap.clamp(min=0.0) * end
