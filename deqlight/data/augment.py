"""Station: the data. Random changes of training images, each a function of (seed, epoch, sample) alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor

__all__ = ["Augmentation", "Cutout", "Flip", "Mixup"]


class Augmentation(ABC):
    """A random change of an image, drawn for each sample anew in each epoch.

    The draw belongs to the sample and the epoch, not to the batch: it is the same on any number of processes, and
    whatever other augmentations there are.
    """

    stream: ClassVar[tuple[int, ...]]
    """Which random numbers are its own: no two kinds have the same."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, samples: int) -> Tensor:
        """What is random in an epoch, `(samples, …)`."""

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The images `(batch, channels, height, width)`, each changed by its row of `draws` `(batch, …)`."""


@dataclass(frozen=True)
class Flip(Augmentation):
    """Every other image, by chance, is mirrored: left becomes right."""

    stream: ClassVar[tuple[int, ...]] = (1,)

    def draw(self, rng: np.random.Generator, samples: int) -> Tensor:
        """Which samples are mirrored in an epoch, `(samples,)`."""
        return torch.from_numpy(rng.integers(0, 2, samples)).bool()

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The images `(batch, channels, height, width)`, mirrored where `draws` `(batch,)` says so."""
        return torch.where(draws[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """A square of each image is blank. Its centre is any pixel, so that part of the square may lie outside.

    Args:
        length: pixels of a side of the square.
        fill: what each channel has there; the data's mean, as in the paper, is no information at all.

    Reference: DeVries & Taylor 2017 (arXiv 1708.04552).
    """

    length: int
    fill: Sequence[float]
    stream: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"a square of {self.length} pixels is none; give at least 1, or no cutout")

    def draw(self, rng: np.random.Generator, samples: int) -> Tensor:
        """The centres of an epoch, as shares of height and width, `(samples, 2)`."""
        return torch.from_numpy(rng.random((samples, 2)))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The images `(batch, channels, height, width)`, blank around `draws` `(batch, 2)`."""
        inside = []
        for axis, size in enumerate(images.shape[2:]):
            first = (draws[:, axis, None] * size).floor() - self.length // 2  # (batch, 1)
            place = torch.arange(size)
            inside.append((place >= first) & (place < first + self.length))  # (batch, size)
        rows, columns = inside
        blank = images.new_tensor(self.fill)[:, None, None]
        return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], blank, images)


@dataclass(frozen=True)
class Mixup:
    """Each image is mixed with another of the training part, and its class with the other's.

    λ x + (1 − λ) x' with the target λ y + (1 − λ) y', λ from Beta(α, α) for each sample. The partner comes from the
    whole training part, not from the batch, and is changed by its own augmentations first: what a sample becomes is a
    function of (seed, epoch, sample).

    Args:
        alpha: α; small ones mix little.
        classes: number of classes.

    Reference: Zhang, Cisse, Dauphin & Lopez-Paz, ICLR 2018 (arXiv 1710.09412).
    """

    alpha: float
    classes: int
    stream: ClassVar[tuple[int, ...]] = (3,)

    def __post_init__(self) -> None:
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise InputError(f"mixup is {self.alpha}; α must be above 0 and finite")

    def draw(self, rng: np.random.Generator, positions: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Each sample's partner among `positions`, and its own share λ, in an epoch; both `(samples,)`."""
        partners = positions[torch.from_numpy(rng.integers(0, len(positions), samples))]
        return partners, torch.from_numpy(rng.beta(self.alpha, self.alpha, samples)).float()

    def images(self, own: Tensor, others: Tensor, shares: Tensor) -> Tensor:
        """λ x + (1 − λ) x' for images `(batch, channels, height, width)` and λ `(batch,)`."""
        return others + shares[:, None, None, None] * (own - others)

    def targets(self, own: Tensor, others: Tensor, shares: Tensor) -> Tensor:
        """λ y + (1 − λ) y' for class numbers `(batch,)` and λ `(batch,)`: probabilities `(batch, classes)`."""
        y, other = (F.one_hot(classes, self.classes).float() for classes in (own, others))
        return other + shares[:, None] * (y - other)
