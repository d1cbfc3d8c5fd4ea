"""Station: the sampler. DPM-Solver++ with steps behind it: one evaluation a step, at any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ..schedules import FlowTime, Quadratic
from ..terms import Denoising
from .base import SolverInfo
from .denoising import REMEMBERED, DataSampler, capped

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DPMpp2M", "DPMpp3M"]


class _DPMpp(DataSampler):
    """DPM-Solver++ with any number of steps behind it."""

    def __init__(self, lower_final: bool = True) -> None:
        self.lower_final, self.info = lower_final, capped(self.info, lower_final)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.lower_final else 'lower_final=False'})"

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """At its full order: with lower ones at the end it is 2, and the same between."""
        return (cls(lower_final=False),)


class DPMpp2M(_DPMpp):
    """DPM-Solver++(2M): y₁ = (ρ₁/ρ₀) y₀ + (1 − ρ₁/ρ₀) ((1 + 1/2r) D₀ − 1/2r D₋₁), r = h₋₁/h in log-SNR.

    Order 2, one evaluation a step; the first step, and a last one to 0, is of order 1. Not to be confused with
    `DPMpp2S`, which has a stage within the step, nor with `ETD2`, whose weight of the difference is exact.

    Args:
        lower_final: whether the last step is of order 1, where it is known which that is.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), algorithm 2.
    """

    order, kept, grid = 2, 1, FlowTime(power=2.5)
    info = SolverInfo(order=2, nfe_step=1, steps=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2211.01095")

    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """Of the state and up to two estimates of the data."""
        share = end / rhos[0]
        if points == 1:
            return share, 1 - share
        lean = (1 - share) * 0.5 * math.log(share) / math.log(rhos[0] / rhos[1])  # of 1/2r = h/2h₋₁
        return share, 1 - share + lean, -lean


class DPMpp3M(_DPMpp):
    """DPM-Solver++ of third order with two steps behind it: the parabola through three data estimates.

    y₁ = e⁻ʰ y₀ + ∫₀ʰ e⁻⁽ʰ⁻ˢ⁾ D(λ₀ + s) ds. Order 3, one evaluation a step; the first two steps are of order 1 and 2, a
    last one to 0 of order 1. The published program has half of the second difference, and so order 2.
    Not to be confused with `DPMSolver3`, which has stages.

    Args:
        lower_final: whether the last two steps are of order 2 and 1, where it is known which those are.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), appendix B; the weights by exact integration.
    """

    order, kept, grid = 3, 2, Quadratic()
    info = SolverInfo(
        order=3,
        nfe_step=1,
        steps=3,
        dense_order=2,
        terms=(Denoising,),
        reference="Lu et al. 2022, arXiv 2211.01095",
    )

    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """Of the state and up to three estimates of the data."""
        return _exact(end, rhos[:points])


@lru_cache(REMEMBERED)
def _exact(end: float, rhos: tuple[float, ...]) -> tuple[float, ...]:
    here = rhos[0]
    return end / here, *exponential_weights(math.log(here / end), [math.log(here / rho) for rho in rhos])


def exponential_weights(h: float, nodes: list[float]) -> list[float]:
    """∫₀ʰ e⁻⁽ʰ⁻ˢ⁾ L_j(s) ds for the Lagrange polynomials L_j of up to three nodes, the first of them 0."""
    m0 = -math.expm1(-h)  # of 1, s, s²
    if len(nodes) == 1:
        return [m0]
    m1 = _first_moment(h)
    if len(nodes) == 2:
        slope = m1 / nodes[1]
        return [m0 - slope, slope]
    m2 = _second_moment(h)
    _, a, b = nodes
    one, two = (m2 - b * m1) / (a * (a - b)), (m2 - a * m1) / (b * (b - a))
    return [m0 - one - two, one, two]


SERIES_BELOW = 0.05


def _first_moment(h: float) -> float:
    """H − (1 − e⁻ʰ), which cancels for small h."""
    return h + math.expm1(-h) if h > SERIES_BELOW else _tail(h, 2)


def _second_moment(h: float) -> float:
    """h² − 2 (h − (1 − e⁻ʰ)), which cancels more."""
    return h * h - 2 * _first_moment(h) if h > 4 * SERIES_BELOW else 2 * _tail(h, 3)


def _tail(h: float, k: int) -> float:
    """Σ_{n ≥ k} (−1)ⁿ⁻ᵏ hⁿ/n!."""
    term, total = h**k / math.factorial(k), 0.0
    for n in range(k + 1, k + 14):
        total += term
        term *= -h / n
    return total
