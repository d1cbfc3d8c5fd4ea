"""Station: how much noise at which time. The values of ρ that a sampler steps between, for any schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from .base import Schedule

__all__ = ["FlowTime", "Grid", "Karras", "Quadratic", "UniformLogSNR", "UniformTime"]


@dataclass(frozen=True)
class Grid(ABC):
    """Where the steps of a solve in ρ = σ/α begin and end.

    Args:
        to_zero: whether the last step goes from the schedule's clean end on to ρ = 0; else it ends there.
    """

    to_zero: bool = False

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        """Values of ρ, `steps + 1` of them, strictly descending, from one of `schedule.rho_ends` to the other, or to 0.

        Raises:
            InputError: for less than one step, and for more than float64 can tell apart.
        """
        if steps < 1:
            raise InputError(f"{type(self).__name__} got steps={steps}; it must be at least 1")
        most, least = schedule.rho_ends
        inner = steps - 1 if self.to_zero else steps
        between = self.between(schedule, most, least, [i / inner for i in range(1, inner)])
        rho = [most, *between, *([least] if inner else []), *([0.0] if self.to_zero else [])]
        for a, b in pairwise(rho):
            if not a > b:
                raise InputError(f"{self} got steps={steps}; ρ = {a:g} and {b:g} are too close there: take fewer steps")
        return rho

    @abstractmethod
    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """ρ at these shares of the way from `most` noise to `least`."""


@dataclass(frozen=True)
class UniformTime(Grid):
    """Equal steps of the schedule's time t.

    Args:
        to_zero: whether the last step goes on to ρ = 0.
    """

    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """ρ at t₁ + share · (t₀ − t₁)."""
        t1, t0 = schedule.time(most), schedule.time(least)
        return [schedule.rho(t1 + share * (t0 - t1)) for share in shares]


@dataclass(frozen=True)
class Quadratic(Grid):
    """Equal steps of √t: short ones where there is little noise.

    Args:
        to_zero: whether the last step goes on to ρ = 0.

    Reference: Song, Meng & Ermon, Denoising Diffusion Implicit Models, ICLR 2021, arXiv 2010.02502, appendix D.
    """

    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """ρ at (√t₁ + share · (√t₀ − √t₁))²."""
        t1, t0 = math.sqrt(schedule.time(most)), math.sqrt(schedule.time(least))
        return [schedule.rho((t1 + share * (t0 - t1)) ** 2) for share in shares]


@dataclass(frozen=True)
class UniformLogSNR(Grid):
    """Equal steps of λ = −log ρ, so a constant ratio of successive ρ.

    Args:
        to_zero: whether the last step goes on to ρ = 0.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022, arXiv 2206.00927.
    """

    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """ρ₁^(1 − share) · ρ₀^share."""
        return [most * math.exp(share * math.log(least / most)) for share in shares]


@dataclass(frozen=True)
class Karras(Grid):
    """Equal steps of ρ^(1/power). With `to_zero=True` these are EDM's times.

    Args:
        to_zero: whether the last step goes on to ρ = 0.
        power: the larger, the shorter are the steps where there is little noise; the paper, which calls it ρ, has 7.

    Raises:
        InputError: for a power that is not positive and finite.

    Reference: Karras et al., arXiv 2206.00364, equation 5.
    """

    power: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise InputError(f"Karras got power={self.power}; it must be positive and finite, and is 7 in the paper")

    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """(ρ₁^(1/power) + share · (ρ₀^(1/power) − ρ₁^(1/power)))^power."""
        a, b = most ** (1 / self.power), least ** (1 / self.power)
        return [math.pow(a + share * (b - a), self.power) for share in shares]


@dataclass(frozen=True)
class FlowTime(Grid):
    """Equal steps of τ^(1/power) for τ = ρ/(scale + ρ): at scale 1 the time of a rectified flow, whatever the schedule.

    Where noise covers all, a step takes little time however far ρ falls; where there is little, ρ^(1/power) is spaced
    evenly, as in `Karras`. The defaults had the least error over samplers of few steps, on mixtures of standard
    deviation 1: `benchmarks/samplers.py --choose`. Multiply the scale by the standard deviation of other data.

    Args:
        to_zero: whether the last step goes on to ρ = 0.
        power: the larger, the shorter are the steps where there is little noise.
        scale: ρ where τ is one half.

    Raises:
        InputError: for a power or a scale that is not positive and finite.

    Reference: Liu, Gong & Liu, Flow Straight and Fast, ICLR 2023, arXiv 2209.03003, for τ; the power as in Karras et
    al., arXiv 2206.00364, equation 5.
    """

    power: float = 2.0
    scale: float = 3.0

    def __post_init__(self) -> None:
        if not (0 < self.power < math.inf and 0 < self.scale < math.inf):
            raise InputError(
                f"FlowTime got power={self.power}, scale={self.scale}; both must be positive and finite: 2, and 3 "
                "standard deviations of the data"
            )

    def between(self, schedule: Schedule, most: float, least: float, shares: Sequence[float]) -> list[float]:
        """ρ at ((1 − share) τ₁^(1/power) + share · τ₀^(1/power))^power."""
        a, b = ((rho / (self.scale + rho)) ** (1 / self.power) for rho in (most, least))
        return [self._rho(math.pow(a + share * (b - a), self.power)) for share in shares]

    def _rho(self, tau: float) -> float:
        return self.scale * tau / (1 - tau)
