"""Station: how much noise at which time. The quarter of a circle between data and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from .base import Schedule
from .numbers import Number, atan, inside, ratio, sin, sqrt

__all__ = ["Trigonometric"]

QUARTER = math.pi / 2


@dataclass(frozen=True)
class Trigonometric(Schedule):
    """x = cos(½πt) x₀ + sin(½πt) ε: data of variance 1 keep it, and at t = 1 there is nothing but noise.

    An interpolant, trained by the velocity as `RectifiedFlow` is; ρ is infinite at t = 1 in the same way. Not to be
    confused with `Cosine`, which ends with some data and has another beginning.

    Args:
        margin: how far from the ends of time a solve in ρ keeps.

    Raises:
        InputError: for a margin outside of (0, ½).

    Reference: Albergo & Vanden-Eijnden, Building Normalizing Flows with Stochastic Interpolants, ICLR 2023, arXiv
    2209.15571, eq. 5, where noise is at t = 0.
    """

    margin: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.margin < 0.5:
            raise InputError(
                f"Trigonometric got margin={self.margin}; it must be above 0, for ρ is infinite at t = 1, and below 0.5"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """From 0 to 1."""
        return 0.0, 1.0

    @property
    def rho_ends(self) -> tuple[float, float]:
        """ρ at t = 1 − margin and at t = margin."""
        return self.rho(1 - self.margin), self.rho(self.margin)

    @property
    def prior_std(self) -> float:
        """1."""
        return 1.0

    def alpha(self, t: Number) -> Number:
        """Cos ½πt, which is 0 at 1."""
        return sin(QUARTER * (1 - self._time(t)))

    def sigma(self, t: Number) -> Number:
        """Sin ½πt."""
        return sin(QUARTER * self._time(t))

    def rho(self, t: Number) -> Number:
        """Tan ½πt."""
        return ratio(self.sigma(t), self.alpha(t))

    def time(self, rho: Number) -> Number:
        """The angle, of a quarter."""
        return atan(inside("Trigonometric got rho", rho, 0.0)) / QUARTER

    def scale(self, rho: Number) -> Number:
        """1/√(1 + ρ²)."""
        return 1 / sqrt(1 + rho * rho)

    def drift(self, t: Number) -> Number:
        """−½π ρ."""
        return -QUARTER * self.rho(t)

    def diffusion(self, t: Number) -> Number:
        """√(π ρ)."""
        return sqrt(math.pi * self.rho(t))

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """−½π sin ½πt and ½π cos ½πt."""
        return -QUARTER * self.sigma(t), QUARTER * self.alpha(t)

    def _time(self, t: Number) -> Number:
        return inside("Trigonometric got t", t, 0.0, 1.0)
