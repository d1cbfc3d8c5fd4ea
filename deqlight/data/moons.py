"""Station: the data. Two moons in the plane, and points far from both."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics import OUTSIDE
from ..types import Tensor
from .batches import Tensors, stream
from .memory import InMemory

__all__ = ["TwoMoons"]

MIDDLE = (0.5, 0.25)
"""The centre of both moons together."""

TRIES = 64
"""How many points are drawn for one that may be kept."""


class TwoMoons(InMemory):
    """Points of two half circles that reach into each other, a class each; and, in the test part, points far away.

    The far points have the class −1: they belong to none, and a network has seen nothing like them. They are drawn
    evenly from a square around the moons, and kept where every point of the moons is far.

    Args:
        batch_size: samples per batch on each device.
        noise: standard deviation of the noise on the half circles, whose radius is 1.
        train: number of training points.
        val: number of points for validation.
        test: number of points of the moons for the test.
        far: number of far points for the test.
        reach: half the side of the square.
        gap: how far from every point of the moons far points are, at least.
        data_seed: which points.

    Raises:
        InputError: for counts below 1, or a square without room for far points.

    Source: `sklearn.datasets.make_moons`.
    """

    def __init__(
        self,
        batch_size: int = 64,
        noise: float = 0.1,
        train: int = 1024,
        val: int = 256,
        test: int = 512,
        far: int = 512,
        reach: float = 8.0,
        gap: float = 2.0,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size)
        for what, count in (("train", train), ("val", val), ("test", test)):
            if count < 1:
                raise InputError(f"TwoMoons: {what} is {count}; at least 1 is needed")
        if far < 0 or not (noise >= 0 and gap >= 0 and math.isfinite(reach)) or reach < gap + 2.0:
            raise InputError(
                f"TwoMoons: far is {far}, noise {noise:g}, reach {reach:g}, gap {gap:g}; none may be negative, and the "
                "reach must be at least gap + 2, or there is no room for far points"
            )
        self.noise, self.sizes, self.far, self.data_seed = noise, (train, val, test), far, data_seed
        self.reach, self.gap = reach, gap

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 2

    def load(self) -> tuple[Tensors, dict[str, Tensor]]:
        """The points `(samples, 2)`: training, validation, test, and the far ones, which belong to the test."""
        from sklearn.datasets import make_moons

        total = sum(self.sizes)
        points, classes = make_moons(total, noise=self.noise, random_state=self.data_seed)
        far = self._far(points)
        inputs = torch.from_numpy(np.concatenate([points, far])).float()
        targets = torch.from_numpy(np.concatenate([classes, np.full(len(far), OUTSIDE)])).long()
        train, val, test = torch.split(torch.arange(total), list(self.sizes))
        outside = torch.arange(total, total + len(far))
        return Tensors(inputs, targets), {"train": train, "val": val, "test": torch.cat([test, outside])}

    def _far(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Far points, `(far, 2)`."""
        rng = stream(self.data_seed, 1)
        drawn = rng.uniform(-self.reach, self.reach, (TRIES * self.far, 2)) + MIDDLE
        away = (x for x in drawn if np.square(points - x).sum(1).min() >= self.gap**2)
        kept = list(islice(away, self.far))
        if len(kept) < self.far:
            raise InputError(
                f"TwoMoons: there is no room for {self.far} far points; give a larger reach than {self.reach}"
            )
        return np.array(kept).reshape(-1, 2)
