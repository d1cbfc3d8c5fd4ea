"""Station: how much noise at which time. Schedules in which the data decay, at a rate β(t)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from ..errors import InputError
from .base import Schedule
from .numbers import Number, asinh, exp, expm1, inside, log1p, ratio, sinh, sqrt

__all__ = ["VP", "Decaying", "Preserving", "SubVP", "check_t_min"]


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


@dataclass(frozen=True)
class _Linear:
    """A rate that grows linearly: β(t) = β₀ + t (β₁ − β₀), for t from 0.

    Args:
        beta_min: β₀, the rate at t = 0.
        beta_max: β₁, that at t = 1.
        t_min: the time of least noise that is trained and sampled; the formulas hold from 0 on.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < float("inf"):
            raise InputError(
                f"{type(self).__name__} got beta_min={self.beta_min}, beta_max={self.beta_max}; they must be positive "
                "and finite, the smaller first: those published are 0.1 and 20"
            )
        check_t_min(type(self).__name__, self.t_min)

    @property
    def ends(self) -> tuple[float, float]:
        """From `t_min` to 1."""
        return self.t_min, 1.0

    def beta(self, t: Number) -> Number:
        """β₀ + t (β₁ − β₀)."""
        return self.beta_min + self._time(t) * (self.beta_max - self.beta_min)

    def total(self, t: Number) -> Number:
        """T β₀ + ½ t² (β₁ − β₀)."""
        t = self._time(t)
        return t * (self.beta_min + t * ((self.beta_max - self.beta_min) / 2))

    def when(self, total: Number) -> Number:
        """The positive root of that, without a difference: 2 B/(β₀ + √(β₀² + 2 (β₁ − β₀) B))."""
        root = sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total)
        return 2 * total / (self.beta_min + root)

    def _time(self, t: Number) -> Number:
        return inside(f"{type(self).__name__} got t", t, 0.0)


@dataclass(frozen=True)
class VP(_Linear, Preserving):
    """The variance-preserving SDE with a linear rate: α = exp(−½ t β₀ − ¼ t² (β₁ − β₀)), σ² = 1 − α².

    Args:
        beta_min: β₀, the rate at t = 0.
        beta_max: β₁, that at t = 1.
        t_min: the time of least noise; published: 1e-3 for sampling, 1e-5 for training.

    Raises:
        InputError: for rates that are not positive, finite and in order; for a `t_min` outside of (0, 1).

    Reference: Song et al., arXiv 2011.13456, equation 33; the limit of Ho, Jain & Abbeel, Denoising Diffusion
    Probabilistic Models, NeurIPS 2020, arXiv 2006.11239.

    >>> VP().rho(1.0) > 150, VP().time(VP().rho(0.25))
    (True, 0.25)
    """


@dataclass(frozen=True)
class SubVP(_Linear, Decaying):
    """The sub-VP SDE: α of `VP`, and σ = 1 − α², which is the square of VP's. It has a diffusion of its own.

    Args:
        beta_min: β₀, the rate at t = 0.
        beta_max: β₁, that at t = 1.
        t_min: the time of least noise; published: 1e-3 for sampling, 1e-5 for training.

    Raises:
        InputError: for rates that are not positive, finite and in order; for a `t_min` outside of (0, 1).

    Reference: Song et al., arXiv 2011.13456, equations 28 and 29.
    """

    def sigma(self, t: Number) -> Number:
        """1 − e^(−B)."""
        return -expm1(-self.total(t))

    def rho(self, t: Number) -> Number:
        """2 sinh(B/2)."""
        return 2 * sinh(self.total(t) / 2)

    def time(self, rho: Number) -> Number:
        """When B = 2 asinh(ρ/2)."""
        return self.when(2 * asinh(inside("SubVP got rho", rho, 0.0) / 2))

    def scale(self, rho: Number) -> Number:
        """e^(−asinh(ρ/2))."""
        return exp(-asinh(rho / 2))

    def diffusion(self, t: Number) -> Number:
        """√(β (1 − e^(−2B)))."""
        return sqrt(-self.beta(t) * expm1(-2 * self.total(t)))

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """−½ β α and β α²."""
        beta, alpha = self.beta(t), self.alpha(t)
        return -beta * alpha / 2, beta * alpha * alpha


def check_t_min(name: str, t_min: float) -> None:
    """Raise `InputError` unless the time of least noise lies in (0, 1)."""
    if not 0 < t_min < 1:
        raise InputError(f"{name} got t_min={t_min}; it must be above 0 and below 1: 1e-3 to sample, 1e-5 to train")
