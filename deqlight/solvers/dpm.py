"""Station: the sampler. DPM-Solver: the noise estimate as a polynomial in the log-SNR, with stages within the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..errors import InputError
from ..schedules import FlowTime
from ..states import axpy, each
from ..terms import Denoising, Term
from ..types import Carry, State
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, between, data, mix

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DPMFast", "DPMSolver2", "DPMSolver3", "DPMpp2S"]


class DPMSolver2(DenoisingSolver):
    """DPM-Solver-2: a stage at the middle of the log-SNR, y₁ = y₀ + (ρ₁ − ρ₀) ε(√(ρ₀ρ₁), u).

    Order 2, two evaluations a step, one in a last step to 0. In ρ it is the midpoint rule with its middle elsewhere.
    Where steps are chosen on the way, its distance to `DDIM` is the error estimate: DPM-Solver-12. Not to be confused
    with `DPMpp2S`, which interpolates the data estimate.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022 (arXiv 2206.00927), algorithm 1 with r₁ = ½, appendix C.
    """

    info = SolverInfo(
        order=2, nfe_step=2, error_order=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2206.00927"
    )

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first, middle = term.vf(rho0, y0), math.sqrt(rho0 * rho1)
        if rho1 == 0.0:
            return _ended(term, rho0, y0, first)
        way, u = rho1 - rho0, axpy(middle - rho0, first, y0)
        second = term.vf(middle, u)
        return Step(axpy(way, second, y0), error=mix([way, -way], [second, first]) if _measured(term) else None)


class DPMSolver3(DenoisingSolver):
    """DPM-Solver-3: stages at one and two thirds of the step in log-SNR.

    Order 3, three evaluations a step, one in a last step to 0. Where steps are chosen on the way, its distance to the
    method of second order through the first two stages is the error estimate: DPM-Solver-23. Not to be confused with
    `DPMpp3M`, which has steps behind it in the place of stages.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022 (arXiv 2206.00927), algorithm 2 with r₁ = ⅓, r₂ = ⅔, appendix C.
    """

    info = SolverInfo(
        order=3, nfe_step=3, error_order=3, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2206.00927"
    )

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first = term.vf(rho0, y0)
        if rho1 == 0.0:
            return _ended(term, rho0, y0, first)
        h = math.log(rho0 / rho1)
        a, b = (rho0 * math.exp(-r * h) for r in (1 / 3, 2 / 3))
        second = term.vf(a, axpy(a - rho0, first, y0))
        bend = -2 * b * _second(2 * h / 3)
        third = term.vf(b, mix([1.0, b - rho0 - bend, bend], [y0, first, second]))
        bend, lower = -1.5 * rho1 * _second(h), 1.5 * (rho1 - rho0)
        y1 = mix([1.0, rho1 - rho0 - bend, bend], [y0, first, third])
        error = mix([bend, lower - bend, -lower], [third, first, second]) if _measured(term) else None
        return Step(y1, error=error)


SECOND, THIRD = DPMSolver2(), DPMSolver3()


class DPMFast(DenoisingSolver):
    """DPM-Solver-fast: steps of order 3, and the last of order 2 or 1, so that `nfe` evaluations are made exactly.

    Order 3 where the last step is of order 2, else 2; three evaluations a step, fewer in the last. It needs a grid of
    `steps` steps. Not to be confused with `DPMSolver3`, which is that without lower orders at the end.

    Args:
        nfe: evaluations in all; None for `DPMSolver3` itself, on any grid.

    Raises:
        InputError: for less than one evaluation.

    Reference: Lu et al., DPM-Solver, NeurIPS 2022 (arXiv 2206.00927), section 3.4.
    """

    grid = FlowTime(power=2.5)

    def __init__(self, nfe: int | None = None) -> None:
        if nfe is not None and nfe < 1:
            raise InputError(f"DPMFast got nfe={nfe}; it makes one evaluation at least")
        self.nfe, self.orders = nfe, () if nfe is None else _orders(nfe)
        self.info = DPMSolver3.info if nfe is None or nfe % 3 == 2 else replace(DPMSolver3.info, order=2)

    def __repr__(self) -> str:
        return f"DPMFast({'' if self.nfe is None else self.nfe})"

    @property
    def steps(self) -> int | None:
        """How many steps its grid must have; None for any."""
        return len(self.orders) or None

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step, of the order that its place in the grid has.

        Raises:
            InputError: for a grid of another number of steps, one that is not known or rises, and one that goes down to
                0 where the last step is of order 2.
        """
        if self.nfe is None:
            return THIRD.walk(term, rho0, rho1, y0, carry)
        levels, count = cast(Denoising, term).levels, len(self.orders)
        if len(levels) != count + 1 or rho1 > rho0:
            told = f"{len(levels) - 1} steps" if levels else "steps that are not known beforehand"
            told = "a grid on which noise rises" if rho1 > rho0 else told
            raise InputError(
                f"{self!r} got {told}; {self.nfe} evaluations are {count} steps, of the orders {self.orders}: give "
                f"grid.times(schedule, {count}), or use DPMSolver3, which takes any"
            )
        order = self.orders[count - (cast(Denoising, term).left(rho0) or count)]
        if rho1 == 0.0 and order > 1:
            raise InputError(
                f"{self!r} got a grid that ends at 0, where a step makes one evaluation, and its last makes {order}; "
                "give a grid with to_zero=False, or another nfe"
            )
        if order == 1:
            return Step(axpy(rho1 - rho0, term.vf(rho0, y0), y0))
        return (SECOND if order == 2 else THIRD).walk(term, rho0, rho1, y0, carry)

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """On any grid."""
        return (cls(),)


def _orders(nfe: int) -> tuple[int, ...]:
    """The orders of the steps, whose sum is `nfe`."""
    count, rest = nfe // 3 + 1, nfe % 3
    return (*[3] * (count - 2), 2, 1) if rest == 0 else (*[3] * (count - 1), rest)


def _measured(term: Term) -> bool:
    """Whether the solve chooses its steps, and so wants an estimate of the error."""
    return not cast(Denoising, term).levels


def _ended(term: Term, rho: float, y: State, noise: State) -> Step:
    """A last step to 0. What is left of the noise is all that is known of its error."""
    end = data(rho, y, noise)
    return Step(end, error=each(lambda a, b: a - b, end, y) if _measured(term) else None)


class DPMpp2S(DenoisingSolver):
    """DPM-Solver++(2S): a stage at the middle of the log-SNR, with the data estimate as the polynomial.

    y₁ = (ρ₁/ρ₀) y₀ + (1 − ρ₁/ρ₀) D(√(ρ₀ρ₁), u). Order 2, two evaluations a step, one in a last step to 0.
    Not to be confused with `DPMSolver2`, which interpolates the noise.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), algorithm 1 with r = ½.
    """

    info = SolverInfo(order=2, nfe_step=2, terms=(Denoising,), reference="Lu et al. 2022, arXiv 2211.01095")

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        first = data(rho0, y0, term.vf(rho0, y0))
        if rho1 == 0.0:
            return Step(first)
        middle = math.sqrt(rho0 * rho1)
        u = between(middle / rho0, y0, first)
        second = data(middle, u, term.vf(middle, u))
        return Step(between(rho1 / rho0, y0, second))


SERIES_BELOW = 1e-2


def _second(h: float) -> float:
    """(eʰ − 1)/h − 1; by its series where h is small, for the difference cancels."""
    if abs(h) < SERIES_BELOW:
        return h / 2 * (1 + h / 3 * (1 + h / 4 * (1 + h / 5 * (1 + h / 6 * (1 + h / 7)))))
    return math.expm1(h) / h - 1
