"""Station: how much noise at which time. Schedules with α = 1: noise is added, and the data stay as they are."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from ..errors import InputError
from .base import Schedule
from .numbers import Number, constant, exp, inside, log, sqrt

__all__ = ["EDM", "VE", "Exploding"]


@dataclass(frozen=True)
class Exploding(Schedule):
    """x = x₀ + σ ε, so that ρ = σ and y = x.

    Args:
        sigma_min: the noise at the clean end.
        sigma_max: that at the noisy end.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise InputError(
                f"{type(self).__name__} got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}; they must be "
                "positive and finite, the smaller first"
            )

    @abstractmethod
    def sigma(self, t: Number) -> Number:
        """σ(t)."""

    @property
    def rho_ends(self) -> tuple[float, float]:
        """The noise at the ends, as it was given."""
        return self.sigma_max, self.sigma_min

    @property
    def prior_std(self) -> float:
        """The noise at the noisy end."""
        return self.sigma_max

    def alpha(self, t: Number) -> Number:
        """1."""
        return constant(1.0, t)

    def rho(self, t: Number) -> Number:
        """σ."""
        return self.sigma(t)

    def scale(self, rho: Number) -> Number:
        """1."""
        return constant(1.0, rho)

    def drift(self, t: Number) -> Number:
        """0."""
        return constant(0.0, t)


@dataclass(frozen=True)
class VE(Exploding):
    """The variance-exploding SDE: σ = σ_min (σ_max/σ_min)^t, for t from 0.

    Its kernel has noise at t = 0 already: the forward equation adds σ² − σ_min² to what is there.

    Args:
        sigma_min: the noise at t = 0.
        sigma_max: that at t = 1; published for CIFAR-10: 50, about the largest distance between two images.

    Raises:
        InputError: for noise that is not positive, finite and in order.

    Reference: Song et al., arXiv 2011.13456, appendix C.
    """

    @property
    def ends(self) -> tuple[float, float]:
        """From 0 to 1."""
        return 0.0, 1.0

    def sigma(self, t: Number) -> Number:
        """σ_min (σ_max/σ_min)^t."""
        return self.sigma_min * exp(inside("VE got t", t, 0.0) * self._octaves)

    def time(self, rho: Number) -> Number:
        """log(ρ/σ_min)/log(σ_max/σ_min)."""
        return log(inside("VE got rho", rho, self.sigma_min) / self.sigma_min) / self._octaves

    def diffusion(self, t: Number) -> Number:
        """σ √(2 log(σ_max/σ_min))."""
        return self.sigma(t) * math.sqrt(2 * self._octaves)

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """0 and σ log(σ_max/σ_min)."""
        return constant(0.0, t), self.sigma(t) * self._octaves

    @property
    def _octaves(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class EDM(Exploding):
    """The schedule of EDM: the noise is the time, σ = t.

    Args:
        sigma_min: the least noise.
        sigma_max: the most.

    Raises:
        InputError: for noise that is not positive, finite and in order.

    Reference: Karras et al., arXiv 2206.00364, table 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def ends(self) -> tuple[float, float]:
        """The least noise and the most."""
        return self.sigma_min, self.sigma_max

    def sigma(self, t: Number) -> Number:
        """The time."""
        return inside("EDM got t", t, 0.0)

    def time(self, rho: Number) -> Number:
        """The noise."""
        return inside("EDM got rho", rho, 0.0)

    def diffusion(self, t: Number) -> Number:
        """√(2 t)."""
        return sqrt(2 * self.sigma(t))

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """0 and 1."""
        return constant(0.0, t), constant(1.0, t)
