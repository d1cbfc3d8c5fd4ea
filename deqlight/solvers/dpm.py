"""Station: the sampler. DPM-Solver: the noise estimate as a polynomial in the log-SNR, with stages within the step."""

from __future__ import annotations

import math

from ..states import axpy
from ..terms import Denoising, Term
from ..types import Carry, State
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, data, mix

__all__ = ["DPMSolver2", "DPMSolver3", "DPMpp2S"]


class DPMSolver2(DenoisingSolver):
    """DPM-Solver-2: a stage at the middle of the log-SNR, y₁ = y₀ + (ρ₁ − ρ₀) ε(√(ρ₀ρ₁), u).

    Order 2, two evaluations a step, one in a last step to 0. In ρ it is the midpoint rule with its middle elsewhere.
    Not to be confused with `DPMpp2S`, which interpolates the data estimate.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022 (arXiv 2206.00927), algorithm 1 with r₁ = ½.
    """

    info = SolverInfo(order=2, nfe_step=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2206.00927")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first, middle = term.vf(rho0, y0), math.sqrt(rho0 * rho1)
        if rho1 == 0.0:
            return Step(data(rho0, y0, first))
        u = axpy(middle - rho0, first, y0)
        return Step(axpy(rho1 - rho0, term.vf(middle, u), y0))


class DPMSolver3(DenoisingSolver):
    """DPM-Solver-3: stages at one and two thirds of the step in log-SNR.

    Order 3, three evaluations a step, one in a last step to 0. Not to be confused with `DPMpp3M`, which has steps
    behind it in the place of stages.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022 (arXiv 2206.00927), algorithm 2 with r₁ = ⅓, r₂ = ⅔.
    """

    info = SolverInfo(order=3, nfe_step=3, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2206.00927")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first = term.vf(rho0, y0)
        if rho1 == 0.0:
            return Step(data(rho0, y0, first))
        h = math.log(rho0 / rho1)
        a, b = (rho0 * math.exp(-r * h) for r in (1 / 3, 2 / 3))
        second = term.vf(a, axpy(a - rho0, first, y0))
        bend = -2 * b * _second(2 * h / 3)
        third = term.vf(b, mix([1.0, b - rho0 - bend, bend], [y0, first, second]))
        bend = -1.5 * rho1 * _second(h)
        return Step(mix([1.0, rho1 - rho0 - bend, bend], [y0, first, third]))


class DPMpp2S(DenoisingSolver):
    """DPM-Solver++(2S): a stage at the middle of the log-SNR, with the data estimate as the polynomial.

    y₁ = (ρ₁/ρ₀) y₀ + (1 − ρ₁/ρ₀) D(√(ρ₀ρ₁), u). Order 2, two evaluations a step, one in a last step to 0. Not to be
    confused with `DPMSolver2`, which interpolates the noise.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), algorithm 1 with r = ½.
    """

    info = SolverInfo(order=2, nfe_step=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2211.01095")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first = data(rho0, y0, term.vf(rho0, y0))
        if rho1 == 0.0:
            return Step(first)
        middle = math.sqrt(rho0 * rho1)
        u = mix([middle / rho0, 1 - middle / rho0], [y0, first])
        second = data(middle, u, term.vf(middle, u))
        return Step(mix([rho1 / rho0, 1 - rho1 / rho0], [y0, second]))


SERIES_BELOW = 1e-2


def _second(h: float) -> float:
    """(eʰ − 1)/h − 1; by its series where h is small, for the difference cancels."""
    if abs(h) < SERIES_BELOW:
        return h / 2 * (1 + h / 3 * (1 + h / 4 * (1 + h / 5 * (1 + h / 6 * (1 + h / 7)))))
    return math.expm1(h) / h - 1
