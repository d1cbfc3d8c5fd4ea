"""Station: how much noise at which time. A schedule says what x_t = α(t) x₀ + σ(t) ε is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .numbers import Number, log

__all__ = ["Schedule"]


class Schedule(ABC):
    """How much of the data and how much noise is in x_t = α(t) x₀ + σ(t) ε, at each time t.

    ρ = σ/α is the variable that samplers solve in: with y = x/α the probability-flow ODE is dy/dρ = ε̂(α y, t), whatever
    the schedule; the estimate of the data is y − ρ ε̂; λ = −log ρ is half the logarithm of the signal-to-noise ratio.
    Noise grows with t.

    A value. All methods take a Python float and return one, in float64, or a tensor of any shape and return one like
    it, in its dtype. Where a schedule is not defined, a float raises `InputError` and a tensor becomes NaN.

    Reference: Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, ICLR 2021, arXiv
    2011.13456; Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022, arXiv
    2206.00364, for y and ρ.
    """

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The times of least and of most noise, between which networks are trained."""

    @property
    @abstractmethod
    def rho_ends(self) -> tuple[float, float]:
        """Where a solve in ρ begins and where it ends, both finite and positive: most noise first."""

    @property
    @abstractmethod
    def prior_std(self) -> float:
        """The standard deviation of x at the noisy end: sampling begins with x of N(0, prior_std²)."""

    @abstractmethod
    def alpha(self, t: Number) -> Number:
        """α(t), what the data are multiplied by."""

    @abstractmethod
    def sigma(self, t: Number) -> Number:
        """σ(t), the standard deviation of the noise."""

    @abstractmethod
    def rho(self, t: Number) -> Number:
        """ρ(t) = σ/α, strictly increasing."""

    def lam(self, t: Number) -> Number:
        """λ(t) = −log ρ = log(α/σ)."""
        return -log(self.rho(t))

    @abstractmethod
    def time(self, rho: Number) -> Number:
        """The time at which there is noise ρ: the inverse of `rho`."""

    @abstractmethod
    def scale(self, rho: Number) -> Number:
        """What y is multiplied by where there is noise ρ, 0 too: x = α y. It needs no time, so a table goes to 0."""

    @abstractmethod
    def drift(self, t: Number) -> Number:
        """f(t) of the forward equation dx = f(t) x dt + g(t) dw: d log α / dt."""

    @abstractmethod
    def diffusion(self, t: Number) -> Number:
        """g(t) of the forward equation: g² = dσ²/dt − 2 f σ²."""

    @abstractmethod
    def slopes(self, t: Number) -> tuple[Number, Number]:
        """dα/dt and dσ/dt: what the velocity dx/dt = α' x₀ + σ' ε is made of."""
