"""Station: the sampler. What samplers share: steps of the probability flow from one level of noise to a lower one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

from ..errors import InputError
from ..states import as_float, axpy, each
from ..terms import Denoising, Term
from ..types import Carry, State, Tensor, Time
from .base import Solver, SolverInfo, Step

__all__ = ["DDIM", "DenoisingSolver", "EDMHeun", "data", "mix"]


class DenoisingSolver(Solver):
    """A solver made for `Denoising` terms, in y and ρ: a subclass gives `info` and `walk`.

    ρ falls from noise to data, or rises on the way back to the noise that data are made of. A last step to ρ = 0 is the
    estimate of the data, at one evaluation, whatever the method. All samples of a batch share their levels of noise.
    """

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step from ρ = `t0` to `t1`.

        Raises:
            InputError: for a ρ below 0, or a step that begins at 0, where all noise is gone; and for levels of noise
                that differ by sample.
        """
        if any(isinstance(t, Tensor) and t.numel() > 1 for t in (t0, t1)):
            raise InputError(f"{self!r} got other levels of noise for each sample; a batch shares them: give floats")
        rho0, rho1 = as_float(t0), as_float(t1)
        if not (rho0 > 0.0 and rho1 >= 0.0):
            raise InputError(
                f"{self!r} got a step of ρ = σ/α from {rho0:g} to {rho1:g}; it begins above 0 and ends at 0 at least"
            )
        return self.walk(term, rho0, rho1, y0, carry)

    @abstractmethod
    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step from `rho0` to `rho1`, which may be 0."""


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


def data(rho: float, y: State, noise: State) -> State:
    """The data that a noise estimate believes in: D = y − ρ ε."""
    return axpy(-rho, noise, y)


def mix(weights: Sequence[float], states: Sequence[State]) -> State:
    """The sum of `weight · state`, one pass over memory for each."""
    (first, *others), (state, *rest) = weights, states
    start: State = each(lambda leaf: leaf * first, state)
    return reduce(lambda total, part: axpy(part[0], part[1], total), zip(others, rest, strict=True), start)
