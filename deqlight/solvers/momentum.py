"""Station: the integrator with inertia. The solution moves by an average of the field over the steps behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError
from ..states import combine
from ..terms import Term
from ..types import Carry, State, Time
from .base import ReversibleSolver, SolverInfo, Step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Momentum"]


class _Moving(NamedTuple):
    """The velocity, and the number of steps done."""

    v: State
    n: int


class Momentum(ReversibleSolver):
    """The step of Momentum ResNet: v₁ = γ v₀ + (1 − γ) f(t₀, y₀), then y₁ = y₀ + h v₁.

    In equal steps y₊ = (1 + γ) y − γ y₋ + h (1 − γ) f(t, y), a linear two-step method whose characteristic roots are 1
    and γ: with shorter steps it converges to dy/dt = f, order 1, which shows once steps are many beside 1/(1 − γ). In
    unit steps it is the semi-implicit Euler method for ε y″ + y′ = f with ε = 1/(1 − γ), whose trajectories may cross.
    One evaluation a step; γ = 0 is `Euler`. Reversible for γ > 0, though undoing n steps makes rounding larger by γ⁻ⁿ.
    Not to be confused with `LinearTwoStep`, published without the factor 1 − γ, which it is for k = −γ.

    Args:
        gamma: γ, at least 0 and below 1.
        rest: begin at rest, v = 0, as published; else with the velocity of the field, whose first step is Euler's.

    Raises:
        InputError: for another γ.

    Reference: Sander, Ablin, Blondel & Peyré, Momentum Residual Neural Networks, ICML 2021 (arXiv 2102.07870).
    """

    def __init__(self, gamma: float = 0.9, rest: bool = True) -> None:
        if not 0.0 <= gamma < 1.0:
            raise InputError(f"Momentum got gamma={gamma:g}; it must be at least 0 and below 1")
        self.gamma, self.rest = float(gamma), rest
        self.info = SolverInfo(
            order=1,
            nfe_step=1,
            steps=2,
            reversible=gamma > 0.0,
            reference="Sander, Ablin, Blondel & Peyré 2021, arXiv 2102.07870",
        )

    def __repr__(self) -> str:
        return f"Momentum(gamma={self.gamma:g}{'' if self.rest else ', moving'})"

    @property
    def contraction(self) -> float:
        """γ."""
        return self.gamma

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the velocity and the number of the step."""
        f, weight = term.vf(t0, y0), 1.0 - self.gamma
        if carry is None:
            v, n = combine([weight if self.rest else 1.0], [f]), 1
        else:
            v, n = combine([self.gamma, weight], [carry.v, f]), carry.n + 1
        return Step(term.advance(y0, [1.0], [v], term.control(t0, t1)), _Moving(v, n))

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: y₀ = y₁ − h v₁, then v₀ = (v₁ − (1 − γ) f(t₀, y₀))/γ."""
        y0 = term.advance(y1, [-1.0], [carry.v], term.control(t0, t1))
        if carry.n == 1:
            return Step(y0, None)
        f, share = term.vf(t0, y0), 1.0 / self.gamma
        return Step(y0, _Moving(combine([share, 1.0 - share], [carry.v, f]), carry.n - 1))

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """With more and with less inertia, at rest and moving."""
        return cls(0.8), cls(0.6, rest=False)
