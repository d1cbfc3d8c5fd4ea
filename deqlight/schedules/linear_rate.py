"""Station: how much noise at which time. The schedules whose rate grows linearly with time."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .numbers import Number, asinh, exp, expm1, inside, sinh, sqrt
from .preserving import Decaying, Preserving, check_t_min

__all__ = ["VP", "SubVP"]

MOST = 80.0
"""The largest B(1): e^80 is still a float32."""


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
        if not (0 < self.beta_min <= self.beta_max and self.beta_min + self.beta_max <= 2 * MOST):
            raise InputError(
                f"{type(self).__name__} got beta_min={self.beta_min}, beta_max={self.beta_max}; they must be positive, "
                f"the smaller first, {MOST:g} at most in the mean: those published are 0.1 and 20"
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
        InputError: for rates that are not positive and in order, or above 80 in the mean; for a `t_min` outside of
            (0, 1).

    Reference: Song et al., arXiv 2011.13456, appendix C; the limit of Ho, Jain & Abbeel, Denoising Diffusion
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
        InputError: for rates that are not positive and in order, or above 80 in the mean; for a `t_min` outside of
            (0, 1).

    Reference: Song et al., arXiv 2011.13456, section 3.4 and appendix C.
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
