"""Station: the truth. Gaussians and their mixtures, to which noise of any level is added: densities and scores, exact.

What a sampler, a likelihood or a loss of generation is held against. Noise of standard deviation ρ is added to a point,
y = x₀ + ρ ε; the noised density is that of y. In the words of a schedule, y = x/α and ρ = σ/α.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .errors import InputError, ShapeError
from .types import Tensor, Time

__all__ = ["CHOOSING", "DIMENSIONS", "REPORTING", "Gaussian", "GaussianMixture", "Target", "mixtures"]

CHOOSING, REPORTING = 0, 1
"""Seeds of two sets of mixtures: one to choose methods and settings on, one for the numbers that are reported."""

DIMENSIONS = (2, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The dimensions of a set of mixtures."""

MOST_COMPONENTS = 8
NARROW, WIDE = 0.05, 0.5  # standard deviations of components, before the whole has variance 1


class Target(ABC):
    """A density that is known with noise of every level, in float64.

    Points are `(batch, dimensions)`. A noise level is a number for all points or `(batch, 1)`, one for each. Estimates
    have the dtype of the points; all is computed in float64.
    """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean of the points without noise, `(dimensions,)`."""

    @property
    @abstractmethod
    def covariance(self) -> Tensor:
        """The covariance of the points without noise, `(dimensions, dimensions)`."""

    @abstractmethod
    def log_density(self, y: Tensor, rho: Time = 0.0) -> Tensor:
        """The logarithm of the density of y = x₀ + ρ ε, `(batch,)` in float64; without noise that of the points."""

    @abstractmethod
    def eps(self, rho: Time, y: Tensor) -> Tensor:
        """The expected noise E[ε | y], which is −ρ ∇ log p_ρ(y) by Tweedie's formula, as `y`."""

    @abstractmethod
    def data(self, rho: Time, y: Tensor) -> Tensor:
        """The expected point E[x₀ | y], which is y − ρ E[ε | y], as `y`."""

    @abstractmethod
    def sample(self, samples: int, rng: np.random.Generator) -> Tensor:
        """Points without noise, `(samples, dimensions)` in float64."""


class Gaussian(Target):
    """A normal distribution with any covariance.

    Args:
        mean: `(dimensions,)`.
        covariance: `(dimensions, dimensions)`, symmetric and positive definite.

    Raises:
        ShapeError: for shapes that do not fit.
        InputError: for a covariance that is none.

    >>> import torch
    >>> float(Gaussian([1.0], [[3.0]]).data(1.0, torch.tensor([[5.0]])))  # three quarters of the way back from 1 to 5
    4.0
    """

    def __init__(self, mean: Tensor | Sequence[float], covariance: Tensor | Sequence[Sequence[float]]) -> None:
        self._mean, self._covariance = _double(mean), _double(covariance)
        size = self._mean.numel()
        if not size or self._mean.dim() != 1 or self._covariance.shape != (size, size):
            raise ShapeError(
                f"Gaussian got a mean of shape {tuple(self._mean.shape)} and a covariance of shape "
                f"{tuple(self._covariance.shape)}; they must be (dimensions,) and (dimensions, dimensions)"
            )
        if not (self._mean.isfinite().all() and torch.allclose(self._covariance, self._covariance.mT)):
            raise InputError("Gaussian got a mean that is not finite, or a covariance that is not symmetric")
        self._variances, self._axes = torch.linalg.eigh(self._covariance)
        if not self._variances.min() > 0:
            raise InputError(
                f"Gaussian got a covariance whose least eigenvalue is {float(self._variances.min()):.3g}; all must be "
                "above 0"
            )

    @property
    def mean(self) -> Tensor:
        """The mean, `(dimensions,)`."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """The covariance, `(dimensions, dimensions)`."""
        return self._covariance

    def log_density(self, y: Tensor, rho: Time = 0.0) -> Tensor:
        """The logarithm of the density of y = x₀ + ρ ε, `(batch,)` in float64."""
        z, variances = self._turned(y, rho)
        return -0.5 * (z.square() / variances + (2 * math.pi * variances).log()).sum(-1)

    def eps(self, rho: Time, y: Tensor) -> Tensor:
        """The expected noise E[ε | y], as `y`."""
        z, variances = self._turned(y, rho)
        return F.linear(_level(rho, y) * z / variances, self._axes.to(y.device)).to(y)

    def data(self, rho: Time, y: Tensor) -> Tensor:
        """The expected point E[x₀ | y], as `y`."""
        z, noised = self._turned(y, rho)
        return self._placed(z * (self._variances.to(y.device) / noised), y)

    def flow(self, start: Time, end: Time, y: Tensor) -> Tensor:
        """Where the probability flow dy/dρ = E[ε | y] leads from `y` at the level `start`, at the level `end`."""
        z, noised = self._turned(y, start)
        return self._placed(z * ((self._variances.to(y.device) + _level(end, y).square()) / noised).sqrt(), y)

    def sample(self, samples: int, rng: np.random.Generator) -> Tensor:
        """Points without noise, `(samples, dimensions)` in float64."""
        drawn = torch.from_numpy(rng.standard_normal((samples, len(self._mean))))
        return self._placed(drawn * self._variances.sqrt(), drawn)

    def _turned(self, y: Tensor, rho: Time) -> tuple[Tensor, Tensor]:
        """What `y` is from the mean along the axes, `(batch, dimensions)`, and the variances with noise there."""
        _check_points(self, y)
        z = (y.double() - self._mean.to(y.device)) @ self._axes.to(y.device)
        return z, self._variances.to(y.device) + _level(rho, y).square()

    def _placed(self, z: Tensor, like: Tensor) -> Tensor:
        """The points that are `z` from the mean along the axes."""
        return F.linear(z, self._axes.to(z.device), self._mean.to(z.device)).to(like)


class GaussianMixture(Target):
    """A mixture of normal distributions, each with one variance in all directions.

    Args:
        weights: how likely each component is, `(components,)`; they sum to 1.
        means: `(components, dimensions)`.
        variances: of each component, `(components,)`.

    Raises:
        ShapeError: for shapes that do not fit.
        InputError: for weights that are no probabilities, or variances that are not above 0.
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        variances: Tensor | Sequence[float],
    ) -> None:
        self.weights, self.means, self.variances = (_double(part) for part in (weights, means, variances))
        shapes = [tuple(part.shape) for part in (self.weights, self.means, self.variances)]
        if self.means.dim() != 2 or not self.means.numel() or shapes[0] != shapes[2] or shapes[0] != shapes[1][:1]:
            raise ShapeError(
                f"GaussianMixture got weights, means and variances of shapes {shapes}; they must be (components,), "
                "(components, dimensions) and (components,)"
            )
        if not (self.weights.min() > 0 and abs(float(self.weights.sum()) - 1.0) < ROUNDING):
            raise InputError(
                f"GaussianMixture got weights that sum to {float(self.weights.sum()):.12g}, the least of them "
                f"{float(self.weights.min()):.3g}; they must be above 0 and sum to 1"
            )
        if not (self.variances.min() > 0 and self.variances.isfinite().all() and self.means.isfinite().all()):
            raise InputError("GaussianMixture got variances that are not above 0, or numbers that are not finite")

    @property
    def mean(self) -> Tensor:
        """The mean of the points without noise, `(dimensions,)`."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """The covariance of the points without noise, `(dimensions, dimensions)`."""
        apart = self.means - self.mean
        own = (self.weights @ self.variances) * torch.eye(self.means.shape[1], dtype=torch.float64)
        return own + (self.weights[:, None] * apart).mT @ apart

    def log_density(self, y: Tensor, rho: Time = 0.0) -> Tensor:
        """The logarithm of the density of y = x₀ + ρ ε, `(batch,)` in float64."""
        return self._parts(y, rho)[0].logsumexp(-1)

    def eps(self, rho: Time, y: Tensor) -> Tensor:
        """The expected noise E[ε | y], as `y`."""
        logs, apart, noised = self._parts(y, rho)
        share = logs.softmax(-1) / noised
        return (_level(rho, y) * (share[..., None] * apart).sum(-2)).to(y)

    def data(self, rho: Time, y: Tensor) -> Tensor:
        """The expected point E[x₀ | y], as `y`."""
        logs, apart, noised = self._parts(y, rho)
        back = (self.variances.to(y.device) / noised)[..., None] * apart  # not y − ρ ε, which has no digits at large ρ
        return (logs.softmax(-1)[..., None] * (self.means.to(y.device) + back)).sum(-2).to(y)

    def sample(self, samples: int, rng: np.random.Generator) -> Tensor:
        """Points without noise, `(samples, dimensions)` in float64."""
        drawn = rng.choice(len(self.weights), samples, p=(self.weights / self.weights.sum()).numpy())
        which, noise = torch.from_numpy(drawn), torch.from_numpy(rng.standard_normal((samples, self.means.shape[1])))
        return self.means[which] + self.variances[which, None].sqrt() * noise

    def _parts(self, y: Tensor, rho: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of weight times density, `y` less the means, and the variances with noise, of each component.

        They are `(batch, components)`, `(batch, components, dimensions)` and `(1 or batch, components)`.
        """
        _check_points(self, y)
        noised = self.variances.to(y.device) + _level(rho, y).square()
        apart = y.double()[:, None] - self.means.to(y.device)
        size = 0.5 * y.shape[1] * (2 * math.pi * noised).log()
        return self.weights.to(y.device).log() - size - apart.square().sum(-1) / (2 * noised), apart, noised


def mixtures(seed: int, dims: Sequence[int] = DIMENSIONS) -> tuple[GaussianMixture, ...]:
    """Random mixtures of two to eight components, one for each dimension; with mean 0 and an average variance of 1.

    What is tuned on those of one seed is to be reported on those of another: `CHOOSING` and `REPORTING`.

    Args:
        seed: which mixtures; the n-th depends on (seed, n, its dimension) alone.
        dims: the dimensions.

    Raises:
        InputError: for a dimension below 1 or a seed below 0.
    """
    if seed < 0 or any(size < 1 for size in dims):
        raise InputError(f"mixtures got the seed {seed} and dims {tuple(dims)}; seeds are from 0, dimensions from 1")
    return tuple(_mixture(np.random.default_rng([seed, number, size]), size) for number, size in enumerate(dims))


def _mixture(rng: np.random.Generator, size: int) -> GaussianMixture:
    components = int(rng.integers(2, MOST_COMPONENTS + 1))
    weights = rng.dirichlet(np.full(components, 3.0))
    means = rng.standard_normal((components, size))
    variances = np.exp(rng.uniform(2 * math.log(NARROW), 2 * math.log(WIDE), components))
    means -= weights @ means
    spread = weights @ (variances + np.square(means).mean(1))
    return GaussianMixture(*(torch.from_numpy(part) for part in (weights, means / spread**0.5, variances / spread)))


ROUNDING = 1e-9
"""By how much a sum of weights may miss 1."""


def _double(numbers: Any) -> Tensor:
    return torch.as_tensor(numbers, dtype=torch.float64, device="cpu")


def _level(rho: Time, y: Tensor) -> Tensor:
    """A noise level in float64: one number, or `(batch, 1)`."""
    level = torch.as_tensor(rho, dtype=torch.float64, device=y.device)
    if level.dim() and level.shape != (len(y), 1):
        raise ShapeError(f"got noise levels of shape {tuple(level.shape)}; one number is needed, or ({len(y)}, 1)")
    return level


def _check_points(target: Target, y: Tensor) -> None:
    size = len(target.mean)
    if y.dim() != 2 or y.shape[1] != size:
        raise ShapeError(f"{type(target).__name__} got points of shape {tuple(y.shape)}; it needs (batch, {size})")
