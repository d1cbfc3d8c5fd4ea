"""Station: the data. Points in the plane, drawn from a density that is known."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..types import Tensor
from .batches import Tensors, stream
from .densities import Density
from .memory import InMemory

__all__ = ["Points"]


class Points(InMemory):
    """Points in the plane for a generator to learn; the targets are the numbers of their components.

    A fixed number of points is drawn once. The parts have no point in common.

    Args:
        density: where points are: `EightGaussians`, `Moons`, `Spirals`, `Rings`, `Checkerboard`, `PinWheel`, or one
            of your own.
        batch_size: samples per batch on each device.
        train: number of training points.
        val: number of points for validation.
        test: number of points for the test.
        data_seed: which points.

    Raises:
        InputError: for counts below 1.
    """

    def __init__(
        self,
        density: Density,
        batch_size: int = 256,
        train: int = 8192,
        val: int = 2048,
        test: int = 4096,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size)
        for what, count in (("train", train), ("val", val), ("test", test)):
            if count < 1:
                raise InputError(f"Points: {what} is {count}; at least 1 is needed")
        self.density, self.sizes, self.data_seed = density, (train, val, test), data_seed

    @property
    def classes(self) -> int:
        """Number of components."""
        return self.density.components

    def load(self) -> tuple[Tensors, dict[str, Tensor]]:
        """The points `(samples, 2)` in float32; all of them depend on the density and `data_seed` alone."""
        points, which = self.density.sample(sum(self.sizes), stream(self.data_seed))
        parts = torch.split(torch.arange(len(points)), list(self.sizes))
        return Tensors(points.float(), which), dict(zip(("train", "val", "test"), parts, strict=True))
