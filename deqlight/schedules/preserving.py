"""Station: how much noise at which time. Schedules in which the data decay, at a rate β(t)."""

from __future__ import annotations

from abc import abstractmethod

from ..errors import InputError
from .base import Schedule
from .numbers import Number, exp, expm1, inside, log1p, ratio, sqrt

__all__ = ["Decaying", "Preserving", "check_t_min"]


class Decaying(Schedule):
    """dx = −½ β x dt + g dw: a rate β(t) at which the data decay. With B = ∫β, α = e^(−B/2).

    A schedule of this kind says what its rate is, what B is, and when B has a value.
    """

    @abstractmethod
    def beta(self, t: Number) -> Number:
        """The rate β(t)."""

    @abstractmethod
    def total(self, t: Number) -> Number:
        """B(t), the rate's integral from 0 to t."""

    @abstractmethod
    def when(self, total: Number) -> Number:
        """The time at which B has this value."""

    @property
    def rho_ends(self) -> tuple[float, float]:
        """ρ at the ends."""
        least, most = self.ends
        return self.rho(most), self.rho(least)

    @property
    def prior_std(self) -> float:
        """1, as published: what the deviation of data of variance 1 tends to."""
        return 1.0

    def alpha(self, t: Number) -> Number:
        """e^(−B/2)."""
        return exp(-self.total(t) / 2)

    def drift(self, t: Number) -> Number:
        """−β/2."""
        return -self.beta(t) / 2


class Preserving(Decaying):
    """g = √β: data of variance 1 keep it, σ² = 1 − e^(−B).

    Written with expm1 and log1p, so that nothing is lost where there is little noise.
    """

    def sigma(self, t: Number) -> Number:
        """√(1 − e^(−B))."""
        return sqrt(-expm1(-self.total(t)))

    def rho(self, t: Number) -> Number:
        """√(e^B − 1)."""
        return sqrt(expm1(self.total(t)))

    def time(self, rho: Number) -> Number:
        """When B = log(1 + ρ²)."""
        rho = inside(f"{type(self).__name__} got rho", rho, 0.0)
        return self.when(log1p(rho * rho))

    def scale(self, rho: Number) -> Number:
        """1/√(1 + ρ²)."""
        return 1 / sqrt(1 + rho * rho)

    def diffusion(self, t: Number) -> Number:
        """√β."""
        return sqrt(self.beta(t))

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """−½ β α and ½ β α²/σ, which is infinite where there is no noise."""
        half, alpha = self.beta(t) / 2, self.alpha(t)
        return -half * alpha, ratio(half * alpha * alpha, self.sigma(t))


def check_t_min(name: str, t_min: float) -> None:
    """Raise `InputError` unless the time of least noise lies in (0, 1)."""
    if not 0 < t_min < 1:
        raise InputError(f"{name} got t_min={t_min}; it must be above 0 and below 1: 1e-3 to sample, 1e-5 to train")
