"""Station: the sampler. Euler's and Heun's step of the probability flow."""

from __future__ import annotations

from ..states import axpy
from ..terms import Denoising, Term
from ..types import Carry, State
from .base import SolverInfo, Step
from .denoising import DenoisingSolver

__all__ = ["DDIM", "EDMHeun"]


class DDIM(DenoisingSolver):
    """Denoising diffusion implicit models: y₁ = y₀ + (ρ₁ − ρ₀) ε(ρ₀, y₀), Euler's step of the probability flow.

    In x it is α₁ D + σ₁ ε. Order 1, one evaluation a step; DPM-Solver, DPM-Solver++ and DEIS of first order are the
    same. Not to be confused with DDPM's ancestral sampling, which draws new noise in each step.

    Reference: Song, Meng & Ermon, ICLR 2021 (arXiv 2010.02502), eq. 13.
    """

    info = SolverInfo(order=1, nfe_step=1, terms=(Denoising,), reference="Song, Meng & Ermon 2021, arXiv 2010.02502")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        return Step(axpy(rho1 - rho0, term.vf(rho0, y0), y0))


class EDMHeun(DenoisingSolver):
    """The sampler of EDM without churn: Heun's step of dy/dρ = ε, and Euler's to ρ = 0.

    Order 2, two evaluations a step, one in a last step to 0: 2 N − 1 in all. Not to be confused with `Heun`, which is
    the same above 0 and has no step to it.

    Reference: Karras, Aittala, Aila & Laine, NeurIPS 2022 (arXiv 2206.00364), algorithm 1.
    """

    info = SolverInfo(order=2, nfe_step=2, terms=(Denoising,), reference="Karras et al. 2022, arXiv 2206.00364")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        way, first = rho1 - rho0, term.vf(rho0, y0)
        ahead = axpy(way, first, y0)
        if rho1 == 0.0:
            return Step(ahead)
        return Step(axpy(way / 2, term.vf(rho1, ahead), axpy(way / 2, first, y0)))
