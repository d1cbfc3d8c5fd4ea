"""Station: the sampler with noise. What all share: the level falls, the last step draws none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NoReturn, cast

from ..errors import InputError
from ..terms import ReverseSDE, Term
from ..types import Carry, Noise, State, Time
from .base import Solver, SolverInfo, Step
from .denoising import DenoisingSolver, data

__all__ = ["NoisySampler", "check_falls", "drawing", "no_dense"]

ADDITIVE: Mapping[Noise, float] = {"additive": 1.0}
"""Strong order of samplers that know of the noise nothing but W."""


class NoisySampler(DenoisingSolver):
    """A sampler that draws noise, for `ReverseSDE`: a subclass gives `info` and `fall`.

    How much noise it draws is its own affair, and the η of the term that of other solvers. The last step, to ρ = 0, is
    the estimate of the data, at one evaluation, and draws none. Between the ends of steps nothing is known.
    """

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step to less noise.

        Raises:
            InputError: for a step to more noise.
        """
        check_falls(self, rho0, rho1)
        sde = cast(ReverseSDE, term)
        if rho1 == 0.0:
            return Step(data(rho0, y0, sde.eps(rho0, y0)), carry)
        return self.fall(sde, rho0, rho1, y0, carry)

    @abstractmethod
    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step from `rho0` to a smaller `rho1` above 0."""

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """Refused.

        Raises:
            InputError: always: a path with noise is no polynomial.
        """
        no_dense(self)


def drawing(order: int, reference: str, steps: int = 1) -> SolverInfo:
    """What a sampler of one evaluation a step claims, whose law is of this order and whose noise is all in it."""
    return SolverInfo(
        order=order,
        nfe_step=1,
        steps=steps,
        calculus="ito",
        strong_order=ADDITIVE,
        weak_order=float(order),
        terms=(ReverseSDE,),
        reference=reference,
    )


def check_falls(solver: Solver, rho0: float, rho1: float) -> None:
    """Refuse steps to more noise, for which there is another equation."""
    if rho1 >= rho0:
        raise InputError(
            f"{solver!r} got a step of ρ = σ/α from {rho0:g} to {rho1:g}; it draws noise and goes to less of it alone: "
            "give levels that fall, or go back from data to noise without drawing, by DDIM() of a Denoising term"
        )


def no_dense(solver: Solver) -> NoReturn:
    """Refuse what is asked of the path between the ends of steps."""
    raise InputError(
        f"{solver!r} draws noise and knows nothing between the ends of its steps; ask for the states at ts alone"
    )
