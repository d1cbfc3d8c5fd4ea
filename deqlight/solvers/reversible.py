"""Station: the integrator that can be undone, on any field. Each carries a second state beside the solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ..errors import InputError
from ..states import combine, each
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from .base import COMMUTATIVE, Inner, ReversibleSolver, Solver, SolverInfo, Step
from .explicit import RK4, Midpoint
from .symplectic import Verlet
from .wrappers import one_step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsynchronousLeapfrog", "ReversibleHeun", "ReversiblePair"]


class _Shadow(NamedTuple):
    """The second state, and the field there where it is continuous over the ends of steps."""

    y: State
    f: State | None


class ReversibleHeun(ReversibleSolver):
    """The reversible Heun method: ŷ₁ = 2y₀ − ŷ₀ + h f(t₀, ŷ₀), then y₁ = y₀ + h/2 (f(t₀, ŷ₀) + f(t₁, ŷ₁)).

    Order 2, one evaluation a step after the first (the field at ŷ₁ is the next step's first), two on layered terms,
    where the next layer's field is another; the difference of both evaluations estimates the error. ŷ starts as y₀.
    Reversible, for fields with imaginary spectrum: it is not stable on decaying ones, and ŷ drifts from y by turns.
    Not to be confused with `Heun`, which evaluates the field at y and cannot be undone.

    Reference: Kidger, Foster, Li & Lyons, Efficient and Accurate Gradients for Neural SDEs, NeurIPS 2021
    (arXiv 2105.13493), algorithms 1 and 2.
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        nfe_start=1,
        error_order=2,
        steps=2,
        fsal=True,
        continuous_field=True,
        reversible=True,
        calculus="stratonovich",
        strong_order=COMMUTATIVE,
        weak_order=1.0,
        reference="Kidger, Foster, Li & Lyons 2021, arXiv 2105.13493",
    )

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """ŷ = y, and the field there, where it is continuous over the ends of steps."""
        return _Shadow(y0, term.vf(t0, y0) if term.continuous else None)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is ŷ at `t0`, and the field there if it is known."""
        shadow, control = carry, term.control(t0, t1)
        f0 = term.vf(t0, shadow.y) if shadow.f is None else shadow.f
        y = term.advance(combine([2.0, -1.0], [y0, shadow.y]), [1.0], [f0], control)
        f1 = term.vf(t1, y)
        y1 = term.advance(y0, [0.5, 0.5], [f0, f1], control)
        error = term.increment([-0.5, 0.5], [f0, f1], control)
        return Step(y1, _Shadow(y, None if shadow.f is None else f1), error)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: ŷ₀ = 2y₁ − ŷ₁ − h f(t₁, ŷ₁), then y₀ = y₁ − h/2 (f(t₀, ŷ₀) + f(t₁, ŷ₁))."""
        shadow, control = carry, term.control(t0, t1)
        f1 = term.vf(t1, shadow.y) if shadow.f is None else shadow.f
        y = term.advance(combine([2.0, -1.0], [y1, shadow.y]), [-1.0], [f1], control)
        f0 = term.vf(t0, y)
        y0 = term.advance(y1, [-0.5, -0.5], [f0, f1], control)
        return Step(y0, _Shadow(y, None if shadow.f is None else f0))


class AsynchronousLeapfrog(ReversibleSolver):
    """The asynchronous leapfrog: with m = y₀ + h/2 v₀, v₁ = 2f(t₀ + h/2, m) − v₀ and y₁ = m + h/2 v₁.

    Order 2, one evaluation a step and one at the start, v₀ = f(t₀, y₀); reversible; stable for fields with imaginary
    spectrum alone. v is the solver's memory: on a layered term it runs from layer to layer. The integrator of MALI.
    Not to be confused with `Leapfrog`, which remembers the state before and not a velocity, nor with `Verlet`.

    Reference: Mutze 2013 (arXiv 1311.6602); Zhuang, Dvornek, Tatikonda & Duncan, MALI, ICLR 2021 (arXiv 2102.04668).
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        nfe_start=1,
        steps=2,
        reversible=True,
        reference="Zhuang, Dvornek, Tatikonda & Duncan 2021, arXiv 2102.04668",
    )

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The velocity at the start, which is the field there."""
        return term.vf(t0, y0)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the velocity."""
        return self._leap(term, t0, t1, y0, carry, 0.5)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: the same moves backwards, v₀ = 2f(t₀ + h/2, m) − v₁ with m = y₁ − h/2 v₁."""
        return self._leap(term, t0, t1, y1, carry, -0.5)

    def _leap(self, term: Term, t0: Time, t1: Time, y: State, v: State, half: float) -> Step:
        control = term.control(t0, t1)
        y = term.advance(y, [half], [v], control)
        v = combine([2.0, -1.0], [term.vf(t0 + 0.5 * (t1 - t0), y), v])
        return Step(term.advance(y, [half], [v], control), v)


class ReversiblePair(ReversibleSolver, nn.Module):
    """Any one-step method, made reversible: a second solution z is moved by the method run backwards.

    With Ψ_h(t, x) the method's increment from t to t + h: y₁ = λy₀ + (1 − λ)z₀ + Ψ_h(t₀, z₀), then
    z₁ = z₀ − Ψ_{−h}(t₁, y₁); z starts as y₀. The method's order, error estimate and terms; twice its evaluations, as
    many as two steps that begin anew. Undoing a step divides by the coupling λ, so that rounding grows by λ⁻ⁿ over n
    steps; on decaying fields, y and z part slowly unless steps times rates stay below about 1 − λ. Around methods of
    odd order the errors of y and z differ, and the order shows once n(1 − λ) is large. Learnt coefficients of the
    method are shared by all layers. Not to be confused with `gradients.Reversible`, which uses it.

    Args:
        solver: the method; it must be a one-step method for first-order equations.
        coupling: λ, above 0 and at most 1.

    Raises:
        InputError: for methods with a memory of earlier steps, and for other couplings.

    Reference: McCallum & Foster, Efficient, Accurate and Stable Gradients for Neural ODEs, 2024 (arXiv 2410.11648).
    """

    def __init__(self, solver: Solver, coupling: float = 0.999) -> None:
        super().__init__()
        if not 0.0 < coupling <= 1.0:
            raise InputError(f"ReversiblePair got coupling={coupling:g}; it must lie above 0 and be at most 1")
        inner = one_step("ReversiblePair", solver).info
        self.solver, self.coupling = solver, float(coupling)
        self.info = replace(
            inner,
            nfe_start=0,
            nfe_step=None if inner.nfe_step is None else 2 * (inner.nfe_start + inner.nfe_step),
            stiff_order=None,
            dense_order=None,
            stability=None,
            steps=2,
            fsal=False,
            continuous_field=False,
            reversible=True,
            symplectic=False,
            calculus=None,  # its steps back are none in Itô's calculus
            strong_order={},
            weak_order=None,
            reference="McCallum & Foster 2024, arXiv 2410.11648",
        )

    def __repr__(self) -> str:
        return f"ReversiblePair({self.solver!r}, coupling={self.coupling:g})"

    @property
    def contraction(self) -> float:
        """The coupling."""
        return self.coupling

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The second solution, which starts as the first."""
        return y0

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is z at `t0`."""
        ahead, first = self._increment(term, t0, t1, carry)
        y1 = combine([self.coupling, 1.0 - self.coupling, 1.0], [y0, carry, ahead])
        back, second = self._increment(term, t1, t0, y1)
        return Step(y1, each(torch.sub, carry, back), first.error, inner=Inner.join((first.inner, second.inner)))

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: z₀ = z₁ + Ψ_{−h}(t₁, y₁), then y₀ = (y₁ − (1 − λ)z₀ − Ψ_h(t₀, z₀))/λ."""
        back, _ = self._increment(term, t1, t0, y1)
        z0 = each(torch.add, carry, back)
        ahead, _ = self._increment(term, t0, t1, z0)
        share = 1.0 / self.coupling
        return Step(combine([share, 1.0 - share, -share], [y1, z0, ahead]), z0)

    def _increment(self, term: Term, t0: Time, t1: Time, y: State) -> tuple[State, Step]:
        """How far the method goes from `y` at `t0` in a step that begins anew, and that step."""
        step = self.solver.step(term, t0, t1, y, self.solver.init(term, t0, t1, y))
        return each(torch.sub, step.y, y), step

    def within(self, rtol: float, atol: float | Tensor) -> Solver:
        """The same around the method for these tolerances."""
        inner = self.solver.within(rtol, atol)
        return self if inner is self.solver else type(self)(inner, self.coupling)

    def bind(self, layers: int, channels: int) -> Solver:
        """The same around a method of the stage's own; it begins anew at every layer, as at the first."""
        return type(self)(self.solver.bind(1, channels), self.coupling)

    def tensors(self) -> tuple[Tensor, ...]:
        """The method's learnable coefficients."""
        return self.solver.tensors()

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Around methods of order 2 and 4, of which one is for partitioned systems."""
        return cls(RK4()), cls(Midpoint(), coupling=0.99), cls(Verlet())
