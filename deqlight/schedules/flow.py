"""Station: how much noise at which time. The straight line between data and noise, which flows are trained on."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .base import Schedule
from .numbers import Number, at_most, constant, inside, ratio, sqrt

__all__ = ["RectifiedFlow"]


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """x = (1 − t) x₀ + (σ_min + (1 − σ_min) t) ε: noise at t = 1, data at t = 0.

    Time goes as in all schedules, so t here is 1 − t of the papers, and the velocity has the other sign.

    At t = 1 nothing of the data is left: ρ is infinite. A flow, which integrates dx/dt = u(x, t), goes between the ends
    1 and 0. What is solved in ρ begins at t = 1 − margin, and ends at t = margin, where λ is finite too; a grid may go
    on to ρ = 0.

    Args:
        sigma_min: the noise that is left at t = 0. With 0 this is the rectified flow, or linear interpolant; above
            0 it is flow matching's conditional path of optimal transport, and ρ ends at `sigma_min`.
        margin: how far from the ends of time a solve in ρ keeps.

    Raises:
        InputError: for a `sigma_min` outside of [0, 1), or a margin outside of (0, ½).

    Reference: Liu, Gong & Liu, Flow Straight and Fast, ICLR 2023, arXiv 2209.03003; Lipman et al., Flow Matching for
    Generative Modeling, ICLR 2023, arXiv 2210.02747, for `sigma_min`.
    """

    sigma_min: float = 0.0
    margin: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise InputError(f"RectifiedFlow got sigma_min={self.sigma_min}; it must be at least 0 and below 1")
        if not 0 < self.margin < 0.5:
            raise InputError(
                f"RectifiedFlow got margin={self.margin}; it must be above 0, for ρ is infinite at t = 1, and below 0.5"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """From 0 to 1."""
        return 0.0, 1.0

    @property
    def rho_ends(self) -> tuple[float, float]:
        """ρ at t = 1 − margin and at t = margin; at t = 0, where there is noise left."""
        return self.rho(1 - self.margin), self.sigma_min or self.rho(self.margin)

    @property
    def prior_std(self) -> float:
        """1."""
        return 1.0

    def alpha(self, t: Number) -> Number:
        """1 − t."""
        return 1 - self._time(t)

    def sigma(self, t: Number) -> Number:
        """σ_min + (1 − σ_min) t."""
        return self.sigma_min + (1 - self.sigma_min) * self._time(t)

    def rho(self, t: Number) -> Number:
        """σ/(1 − t)."""
        return ratio(self.sigma(t), self.alpha(t))

    def time(self, rho: Number) -> Number:
        """(ρ − σ_min)/(ρ + 1 − σ_min)."""
        rho = inside("RectifiedFlow got rho", rho, self.sigma_min)
        return (rho - self.sigma_min) / (rho + (1 - self.sigma_min))

    def scale(self, rho: Number) -> Number:
        """1/(ρ + 1 − σ_min), and 1 below σ_min."""
        return at_most(1 / (rho + (1 - self.sigma_min)), 1.0)

    def drift(self, t: Number) -> Number:
        """−1/(1 − t)."""
        return ratio(constant(-1.0, t), self.alpha(t))

    def diffusion(self, t: Number) -> Number:
        """√(2 ρ)."""
        return sqrt(2 * self.rho(t))

    def slopes(self, t: Number) -> tuple[Number, Number]:
        """−1 and 1 − σ_min."""
        return constant(-1.0, t), constant(1 - self.sigma_min, t)

    def _time(self, t: Number) -> Number:
        return inside("RectifiedFlow got t", t, 0.0, 1.0)
