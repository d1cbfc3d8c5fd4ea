"""Station: the integrator, wrapped. What can be added to any one-step method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from ..errors import InputError
from ..states import each
from ..terms import Stochastic, Term
from ..types import Carry, State, Tensor, Time
from .base import Inner, Solver, Step
from .explicit import RK4, Euler, Midpoint
from .symplectic import Verlet

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StepDoubling", "one_step"]


class StepDoubling(Solver, nn.Module):
    """Any one-step method with an error estimate: each step is done at once, and again in two halves.

    The solution is that of the two halves, y₂; with y₁ that of the whole step and p the method's order, the estimate
    of its error is (y₂ − y₁)/(2ᵖ − 1). Order p, or p + 1 with `extrapolate`; the estimate's is p + 1; three times the
    evaluations of the method. On stochastic terms p is the strong order, and there is no extrapolation. Learnt
    coefficients of the method are those of half a layer each. Not to be confused with an embedded method, which shares
    the evaluations of one step, such as `Dopri5`.

    Args:
        solver: the method; it must be a one-step method for first-order equations.
        extrapolate: go on with y₂ plus the estimate (Richardson's extrapolation), one order higher.

    Raises:
        InputError: for methods with a memory of earlier steps, and for those of second-order equations.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.4.
    """

    def __init__(self, solver: Solver, extrapolate: bool = False) -> None:
        super().__init__()
        inner = one_step("StepDoubling", solver).info
        self.solver, self.extrapolate = solver, extrapolate
        self.info = replace(
            inner,
            order=inner.order + extrapolate,
            nfe_step=None if inner.nfe_step is None else 3 * inner.nfe_step,
            error_order=inner.order + 1,
            stiff_order=None if extrapolate else inner.stiff_order,
            dense_order=None,
            stability=None if extrapolate or inner.stability is None else 2 * inner.stability,
            reversible=False,
            symplectic=inner.symplectic and not extrapolate,
            calculus=None if extrapolate else inner.calculus,
            strong_order={} if extrapolate else inner.strong_order,
            weak_order=None,
            reference="Richardson 1911; Hairer, Nørsett & Wanner 1993, §II.4",
        )

    def __repr__(self) -> str:
        return f"StepDoubling({self.solver!r}{', extrapolate' * self.extrapolate})"

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The method's own memory."""
        return self.solver.init(term, t0, t1, y0)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """The whole step, and both halves; `carry` is the method's."""
        middle, share = t0 + 0.5 * (t1 - t0), 1.0 / (2.0 ** self._order(term) - 1.0)
        whole = self.solver.step(term, t0, t1, y0, carry)
        first = self.solver.step(term, t0, middle, y0, carry)
        second = self.solver.step(term, middle, t1, first.y, first.carry)
        error = each(lambda a, b: (a - b) * share, second.y, whole.y)
        y1 = each(lambda a, b: a + b, second.y, error) if self.extrapolate else second.y
        return Step(y1, second.carry, error, inner=Inner.join((whole.inner, first.inner, second.inner)))

    def _order(self, term: Term) -> float:
        """The power of the step that the solution's error shrinks with."""
        info = self.solver.info
        return info.strong_order[term.noise] if isinstance(term, Stochastic) else info.order

    def within(self, rtol: float, atol: float | Tensor) -> Solver:
        """The same around the method for these tolerances."""
        inner = self.solver.within(rtol, atol)
        return self if inner is self.solver else type(self)(inner, self.extrapolate)

    def bind(self, layers: int, channels: int) -> Solver:
        """The same around a method of the stage's own, which takes two steps a layer."""
        return type(self)(self.solver.bind(2 * layers, channels), self.extrapolate)

    def tensors(self) -> tuple[Tensor, ...]:
        """The method's learnable coefficients."""
        return self.solver.tensors()

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Around methods of order 1, 2 and 4, of which one is for partitioned systems, and one extrapolated."""
        return cls(Euler()), cls(RK4()), cls(Verlet()), cls(Midpoint(), extrapolate=True)


def one_step(wrapper: str, solver: Solver) -> Solver:
    """The solver, if it is one that a wrapper can call for any step at any time; raises `InputError` if it is not."""
    if not isinstance(solver, Solver):
        raise InputError(f"{wrapper} got {solver!r}; it needs an instance of a solver, such as {wrapper}(RK4())")
    if solver.info.steps != 1 or solver.info.derivative != 1:
        why = "remembers earlier steps" if solver.info.derivative == 1 else "is for second-order equations"
        raise InputError(
            f"{wrapper} got {solver!r}, which {why}; it needs a one-step method for first-order equations, such as "
            "Heun, RK4 or Verlet"
        )
    return solver
