"""Station: the data. Densities in the plane that are curves with noise: moons, spirals, rings, a circle of blobs."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..errors import InputError
from ..gaussians import GaussianMixture
from ..types import Tensor
from .densities import Density, check_positive, checked

__all__ = ["EightGaussians", "Moons", "Rings", "Smeared", "Spirals"]

NODES = 16
PANEL = 3.0
"""So many nodes of Gauss and Legendre on a panel of so many standard deviations of the noise: exact to rounding."""

CHUNK = 1 << 21
"""At most so many distances of points and nodes at once."""

PROBES = 1000
"""Places at which it is measured how fast a curve runs."""


class Smeared(Density):
    """Curves, a component each, with normal noise of one standard deviation in every direction.

    Attributes:
        noise: the standard deviation.
    """

    noise: float

    @abstractmethod
    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """Where the curves `which` are at `s` from 0 to 1, which points have evenly: `(n,)` each, to `(n, 2)`."""

    @cached_property
    def mixture(self) -> GaussianMixture:
        """The same density as a mixture of normal distributions along the curves: by quadrature, exact to rounding.

        So its score is known too, with noise of every level.
        """
        along = torch.linspace(0, 1, PROBES, dtype=torch.float64).repeat(self.components)
        own = torch.arange(self.components).repeat_interleave(PROBES)
        lengths = self.curve(along, own).reshape(self.components, PROBES, 2).diff(dim=1).norm(dim=2)
        panels = math.ceil(float(lengths.max()) * (PROBES - 1) / (PANEL * self.noise))
        points, parts = _panels(panels) if panels else (torch.full((1,), 0.5).double(), torch.ones(1).double())
        which = torch.arange(self.components).repeat_interleave(len(points))
        weights = parts.repeat(self.components) / self.components
        means = self.curve(points.repeat(self.components), which)
        return GaussianMixture(weights, means, torch.full_like(weights, self.noise**2))

    def draw(self, which: Tensor, rng: np.random.Generator) -> Tensor:
        """A point of each of the components `which` `(samples,)`: `(samples, 2)` in float64."""
        s = torch.from_numpy(rng.uniform(0.0, 1.0, len(which)))
        return self.curve(s, which) + self.noise * torch.from_numpy(rng.standard_normal((len(which), 2)))

    def log_density(self, x: Tensor) -> Tensor:
        """The logarithm of the density at points `(batch, 2)`, `(batch,)` in float64."""
        some = max(1, CHUNK // len(self.mixture.weights))
        return torch.cat([self.mixture.log_density(part) for part in torch.split(checked(x), some)])


@dataclass(frozen=True)
class EightGaussians(Smeared):
    """Eight normal distributions around a circle.

    Args:
        radius: of the circle.
        noise: the standard deviation of each.

    Raises:
        InputError: for numbers that are not above 0.
    """

    radius: float = 2.0
    noise: float = 0.25

    def __post_init__(self) -> None:
        check_positive(self, radius=self.radius, noise=self.noise)

    @property
    def components(self) -> int:
        """Eight."""
        return 8

    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """The centres, at every `s`."""
        return self.radius * _direction(2 * math.pi * which.double() / 8)


@dataclass(frozen=True)
class Moons(Smeared):
    """Two half circles of radius 1 that reach into each other; without labels or far points, which `TwoMoons` has.

    Args:
        noise: the standard deviation of the noise on them.

    Raises:
        InputError: for noise that is not above 0.
    """

    noise: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, noise=self.noise)

    @property
    def components(self) -> int:
        """Two."""
        return 2

    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """The upper half circle, and the lower one beside it."""
        upper = _direction(math.pi * s)
        return torch.where(which[:, None] == 0, upper, upper.new_tensor([1.0, 0.5]) - upper)


@dataclass(frozen=True)
class Spirals(Smeared):
    """Arms that wind outwards from the middle, at equal distances, with nearly as many points everywhere.

    Args:
        arms: how many.
        turns: how often an arm has gone round where it ends; it begins at a quarter of a turn.
        radius: where the arms end.
        noise: the standard deviation of the noise on them.

    Raises:
        InputError: for numbers that are not above 0, or arms of a quarter of a turn or less.
    """

    arms: int = 2
    turns: float = 1.5
    radius: float = 3.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, arms=self.arms, turns=self.turns, radius=self.radius, noise=self.noise)
        if self.turns <= FIRST_TURN:
            raise InputError(
                f"Spirals: turns is {self.turns:g}; arms begin at {FIRST_TURN:g}, and must end behind that"
            )

    @property
    def components(self) -> int:
        """The arms."""
        return self.arms

    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """The arms, at a distance from the middle that grows with the angle."""
        turn = (FIRST_TURN**2 + s * (self.turns**2 - FIRST_TURN**2)).sqrt()  # so that the speed is nearly one
        return (self.radius / self.turns * turn)[:, None] * _direction(2 * math.pi * (turn + which / self.arms))


FIRST_TURN = 0.25
"""Where an arm begins: nearer to the middle the arms would be one."""


@dataclass(frozen=True)
class Rings(Smeared):
    """Circles around the origin, at equal distances.

    Args:
        rings: how many.
        radius: of the outermost.
        noise: the standard deviation of the noise on them.

    Raises:
        InputError: for numbers that are not above 0.
    """

    rings: int = 3
    radius: float = 3.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, rings=self.rings, radius=self.radius, noise=self.noise)

    @property
    def components(self) -> int:
        """The rings, from the innermost."""
        return self.rings

    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """The circles."""
        return (self.radius * (which + 1) / self.rings)[:, None] * _direction(2 * math.pi * s)


def _panels(panels: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a quadrature over [0, 1]."""
    x, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    return ((starts + 0.5 * (x + 1)) / panels).flatten(), (0.5 * w / panels).repeat(panels)


def _direction(angle: Tensor) -> Tensor:
    """Unit vectors, `(n, 2)`."""
    return torch.stack([angle.cos(), angle.sin()], 1)
