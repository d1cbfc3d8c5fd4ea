"""Station: the data. Densities in the plane that a generator learns: points of any number, and what the truth is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError, ShapeError
from ..types import Tensor

__all__ = ["Checkerboard", "Density", "PinWheel", "check_positive", "checked"]


class Density(ABC):
    """A density of points in the plane, made of components that are all equally likely."""

    @property
    @abstractmethod
    def components(self) -> int:
        """How many components there are."""

    @abstractmethod
    def draw(self, which: Tensor, rng: np.random.Generator) -> Tensor:
        """A point of each of the components `which` `(samples,)`: `(samples, 2)` in float64."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at points `(batch, 2)`, `(batch,)` in float64; −∞ where there are none."""

    def sample(self, samples: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Points `(samples, 2)` in float64, and of which component each is, `(samples,)`."""
        which = torch.from_numpy(rng.integers(0, self.components, samples))
        return self.draw(which, rng), which


@dataclass(frozen=True)
class Checkerboard(Density):
    """The dark squares of a board around the origin, evenly.

    Args:
        cells: squares along a side of the board; the first is dark.
        side: length of a square.

    Raises:
        InputError: for numbers that are not above 0.
    """

    cells: int = 4
    side: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, cells=self.cells, side=self.side)

    @property
    def components(self) -> int:
        """The dark squares, row by row."""
        return (self.cells**2 + 1) // 2

    def draw(self, which: Tensor, rng: np.random.Generator) -> Tensor:
        """A point of each of the squares `which` `(samples,)`: `(samples, 2)` in float64."""
        corners = torch.tensor([(i, j) for i in range(self.cells) for j in range(i % 2, self.cells, 2)])
        within = torch.from_numpy(rng.uniform(0.0, 1.0, (len(which), 2)))
        return self.side * (corners[which] + within - 0.5 * self.cells)

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at points `(batch, 2)`, `(batch,)` in float64; −∞ where there are none."""
        square = (checked(x) / self.side + 0.5 * self.cells).floor()
        dark = ((square >= 0) & (square < self.cells)).all(1) & (square.sum(1) % 2 == 0)
        value = -math.log(self.components * self.side**2)
        return torch.full_like(square[:, 0], value).masked_fill(~dark, -math.inf)


@dataclass(frozen=True)
class PinWheel(Density):
    """Arms around the origin, each a normal distribution that is twisted the more the farther from it.

    The twist is a function of the distance, so that it keeps areas, and the density is known. In the source it is one
    of the first coordinate, nearly the same.

    Args:
        arms: how many.
        size: distance of the arms' middles.
        radial: standard deviation along an arm, in sizes.
        tangential: standard deviation across, in sizes.
        rate: the twist at distance r is so many times exp(r / size), in radians.

    Raises:
        InputError: for numbers that are not above 0.

    Source: Johnson et al., Composing graphical models with neural networks, NeurIPS 2016 (arXiv 1603.06277).
    """

    arms: int = 5
    size: float = 2.0
    radial: float = 0.3
    tangential: float = 0.1
    rate: float = 0.25

    def __post_init__(self) -> None:
        check_positive(self, arms=self.arms, size=self.size, radial=self.radial, tangential=self.tangential)
        if not math.isfinite(self.rate):
            raise InputError(f"PinWheel: rate is {self.rate}; it must be finite")

    @property
    def components(self) -> int:
        """The arms."""
        return self.arms

    def draw(self, which: Tensor, rng: np.random.Generator) -> Tensor:
        """A point of each of the arms `which` `(samples,)`: `(samples, 2)` in float64."""
        straight = torch.from_numpy(rng.standard_normal((len(which), 2)) * (self.radial, self.tangential) + (1.0, 0.0))
        return self.size * _rotated(straight, self._angle(straight, which))

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at points `(batch, 2)`, `(batch,)` in float64."""
        twisted = checked(x) / self.size
        arms = [self._log_straight(_rotated(twisted, -self._angle(twisted, arm))) for arm in range(self.arms)]
        return torch.stack(arms).logsumexp(0) - math.log(self.arms * self.size**2)

    def _log_straight(self, x: Tensor) -> Tensor:
        """The logarithm of the density of an arm that is not twisted."""
        z = (x - x.new_tensor([1.0, 0.0])) / x.new_tensor([self.radial, self.tangential])
        return -0.5 * z.square().sum(1) - math.log(2 * math.pi * self.radial * self.tangential)

    def _angle(self, x: Tensor, arm: Tensor | int) -> Tensor:
        """By how much points of an arm are turned, of their distance alone."""
        return self.rate * x.square().sum(1).sqrt().exp() + 2 * math.pi / self.arms * arm


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Points `(n, 2)`, each turned by its angle `(n,)`."""
    (a, b), cos, sin = x.unbind(1), angle.cos(), angle.sin()
    return torch.stack([cos * a - sin * b, sin * a + cos * b], 1)


def checked(x: Tensor) -> Tensor:
    """Points in the plane `(batch, 2)` in float64; others raise `ShapeError`."""
    if x.dim() != 2 or x.shape[1] != 2:
        raise ShapeError(f"got points of shape {tuple(x.shape)}; points in the plane are (batch, 2)")
    return x.double()


def check_positive(density: Density, **numbers: float) -> None:
    """Raise `InputError` for a number that is not above 0."""
    for what, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"{type(density).__name__}: {what} is {number:g}; it must be above 0, and finite")
