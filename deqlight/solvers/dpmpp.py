"""Station: the sampler. DPM-Solver++ with steps behind it: one evaluation a step, at any order."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..terms import Denoising, Term
from ..types import Carry, State
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, data, mix

__all__ = ["DPMpp2M", "DPMpp3M"]


class _Past(NamedTuple):
    """The data estimates of the steps behind, the newest first, and the log-SNRs they were made at."""

    estimates: tuple[State, ...]
    lams: tuple[float, ...]


class DPMpp2M(DenoisingSolver):
    """DPM-Solver++(2M): y₁ = (ρ₁/ρ₀) y₀ + (1 − ρ₁/ρ₀) ((1 + 1/2r) D₀ − 1/2r D₋₁), r = h₋₁/h in log-SNR.

    Order 2, one evaluation a step; the first step, and a last one to 0, is of order 1. Not to be confused with
    `DPMpp2S`, which has a stage within the step, nor with `ETD2`, whose weight of the difference is exact.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), algorithm 2.
    """

    info = SolverInfo(order=2, nfe_step=1, steps=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2211.01095")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the estimate before, and where it was made."""
        lam, now = -math.log(rho0), data(rho0, y0, term.vf(rho0, y0))
        past = _Past((now,), (lam,))
        share = rho1 / rho0
        if carry is None or rho1 == 0.0:
            return Step(mix([share, 1 - share], [y0, now]), past)
        lean = (1 - share) * 0.5 * (-math.log(share)) / (lam - carry.lams[0])  # of 1/2r = h/2h₋₁
        return Step(mix([share, 1 - share + lean, -lean], [y0, now, carry.estimates[0]]), past)


class DPMpp3M(DenoisingSolver):
    """DPM-Solver++ of third order with two steps behind it: the parabola through three data estimates.

    y₁ = e⁻ʰ y₀ + ∫₀ʰ e⁻⁽ʰ⁻ˢ⁾ D(λ₀ + s) ds. Order 3, one evaluation a step; the first two steps are of order 1 and 2, a
    last one to 0 of order 1. The published program has half of the second difference, and so order 2. Not to be
    confused with `DPMSolver3`, which has stages.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), appendix B; the weights by exact integration.
    """

    info = SolverInfo(
        order=3,
        nfe_step=1,
        steps=3,
        dense_order=2,
        terms=(Denoising,),
        reference="Lu et al. 2022, arXiv 2211.01095",
    )

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` are the two estimates before, and where they were made."""
        lam, now = -math.log(rho0), data(rho0, y0, term.vf(rho0, y0))
        behind = _Past((), ()) if carry is None else carry
        past = _Past((now, *behind.estimates)[:2], (lam, *behind.lams)[:2])
        if rho1 == 0.0:
            return Step(now, past)
        estimates, lams = (now, *behind.estimates), (lam, *behind.lams)
        weights = exponential_weights(-math.log(rho1 / rho0), [at - lam for at in lams])
        return Step(mix([rho1 / rho0, *weights], [y0, *estimates]), past)


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
