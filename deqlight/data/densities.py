"""Station: the data. Densities in the plane that a generator learns: points of any number, and what the truth is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..errors import InputError, ShapeError
from ..gaussians import GaussianMixture
from ..types import Tensor

__all__ = ["Checkerboard", "Density", "EightGaussians", "Moons", "PinWheel", "Rings", "Smeared", "Spirals"]

NODES = 16
PANEL = 3.0
"""So many nodes of Gauss and Legendre on a panel of so many standard deviations of the noise: exact to rounding."""

CHUNK = 1 << 21
"""At most so many distances of points and nodes at once."""

PROBES = 1000
"""Places at which it is measured how fast a curve runs."""


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
        return torch.cat([self.mixture.log_density(part) for part in torch.split(_checked(x), some)])


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
        _check_positive(self, radius=self.radius, noise=self.noise)

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
        _check_positive(self, noise=self.noise)

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
        _check_positive(self, arms=self.arms, turns=self.turns, radius=self.radius, noise=self.noise)
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
        _check_positive(self, rings=self.rings, radius=self.radius, noise=self.noise)

    @property
    def components(self) -> int:
        """The rings, from the innermost."""
        return self.rings

    def curve(self, s: Tensor, which: Tensor) -> Tensor:
        """The circles."""
        return (self.radius * (which + 1) / self.rings)[:, None] * _direction(2 * math.pi * s)


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
        _check_positive(self, cells=self.cells, side=self.side)

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
        square = (_checked(x) / self.side + 0.5 * self.cells).floor()
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
        _check_positive(self, arms=self.arms, size=self.size, radial=self.radial, tangential=self.tangential)
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
        twisted = _checked(x) / self.size
        arms = [self._log_straight(_rotated(twisted, -self._angle(twisted, arm))) for arm in range(self.arms)]
        return torch.stack(arms).logsumexp(0) - math.log(self.arms * self.size**2)

    def _log_straight(self, x: Tensor) -> Tensor:
        """The logarithm of the density of an arm that is not twisted."""
        z = (x - x.new_tensor([1.0, 0.0])) / x.new_tensor([self.radial, self.tangential])
        return -0.5 * z.square().sum(1) - math.log(2 * math.pi * self.radial * self.tangential)

    def _angle(self, x: Tensor, arm: Tensor | int) -> Tensor:
        """By how much points of an arm are turned, of their distance alone."""
        return self.rate * x.square().sum(1).sqrt().exp() + 2 * math.pi / self.arms * arm


def _panels(panels: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a quadrature over [0, 1]."""
    x, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
    starts = torch.arange(panels, dtype=torch.float64)[:, None]
    return ((starts + 0.5 * (x + 1)) / panels).flatten(), (0.5 * w / panels).repeat(panels)


def _direction(angle: Tensor) -> Tensor:
    """Unit vectors, `(n, 2)`."""
    return torch.stack([angle.cos(), angle.sin()], 1)


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Points `(n, 2)`, each turned by its angle `(n,)`."""
    (a, b), cos, sin = x.unbind(1), angle.cos(), angle.sin()
    return torch.stack([cos * a - sin * b, sin * a + cos * b], 1)


def _checked(x: Tensor) -> Tensor:
    if x.dim() != 2 or x.shape[1] != 2:
        raise ShapeError(f"got points of shape {tuple(x.shape)}; points in the plane are (batch, 2)")
    return x.double()


def _check_positive(density: Density, **numbers: float) -> None:
    for what, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"{type(density).__name__}: {what} is {number:g}; it must be above 0, and finite")
