"""Station: the integrator. Explicit Runge–Kutta methods: each is a tableau and what is known of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from ..interpolation import hermite
from ..states import each, leaves, like
from ..terms import Term
from ..types import VF, Carry, Control, State, Tensor, Time
from .base import COMMUTATIVE, Solver, SolverInfo, Step
from .tableau import Tableau

__all__ = [
    "RK4",
    "RK38",
    "SSPRK3",
    "Euler",
    "ExplicitRungeKutta",
    "Heun",
    "Midpoint",
    "Ralston",
    "cubic",
]


class ExplicitRungeKutta(Solver):
    """Any explicit Runge–Kutta method: a subclass gives `tableau` and `info`."""

    @property
    @abstractmethod
    def tableau(self) -> Tableau:
        """The method's numbers; a subclass has them as a class attribute."""

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The first stage, where the method carries its last stage over (FSAL) and the field is continuous."""
        return term.vf(t0, y0) if self.tableau.fsal and term.continuous else None

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the stages in order, then the solution; `carry` is the first stage if it is known."""
        tableau, length = self.tableau, t1 - t0
        control = term.control(t0, t1)
        stages = term.slopes(term.vf(t0, y0) if carry is None else carry, tableau.stages, control)
        y = y0
        for node, row in zip(tableau.c[1:], tableau.a[1:], strict=True):
            y = term.advance(y0, row, stages, control)
            stages.append(term.vf(t0 + node * length, y))
        y1 = y if tableau.fsal else term.advance(y0, tableau.b, stages, control)
        error = _error(tableau, term, stages, control)
        return Step(y1, None if carry is None else stages[-1], error, tuple(stages))

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The method's own continuous extension, or Hermite's cubic, from the stages of the step."""
        tableau = self.tableau
        if tableau.dense is None:
            return cubic(term, t0, t1, y0, step)
        stages, control = list(step.slopes), term.control(t0, t1)
        for row in tableau.extra:
            y = term.advance(y0, row, stages, control)
            stages.append(term.vf(t0 + sum(row) * (t1 - t0), y))
        return y0, *(term.increment(power, stages, control) for power in zip(*tableau.dense, strict=True))


def cubic(term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
    """Hermite's cubic over a step whose first slope is the field at its start; one evaluation, at the end."""
    control = term.control(t0, t1)
    return hermite(y0, step.y, *(term.prod(vf, control) for vf in (step.slopes[0], term.vf(t1, step.y))))


def _error(tableau: Tableau, term: Term, stages: Sequence[VF], control: Control) -> State | None:
    if tableau.b_error is None:
        return None
    error = term.increment(tableau.b_error, stages, control)
    if tableau.b_damp is None:
        return error
    size, other = _sizes(error), 0.1 * _sizes(term.increment(tableau.b_damp, stages, control))
    whole = torch.hypot(size, other)
    factor = torch.where(whole > 0, size / whole, 1.0)  # where both vanish, so does the error
    return each(lambda leaf: leaf * like(factor.to(leaf.dtype), leaf), error)


def _sizes(y: State) -> Tensor:
    """The Euclidean norm of each sample, `(batch,)`; of the whole state where it has no axes."""
    rows = [leaf.detach().flatten(1) if leaf.dim() > 1 else leaf.detach().unsqueeze(-1) for leaf in leaves(y)]
    sizes: Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(row, dim=-1) for row in rows]), dim=0
    )
    return sizes


class Euler(ExplicitRungeKutta):
    """The explicit Euler method, y₁ = y₀ + h f(t₀, y₀).

    Order 1, one stage, one evaluation a step. On a layered term with unit steps it is a residual network
    (He et al. 2016; E 2017). Not to be confused with `SymplecticEuler`, which updates one half after the other.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §I.7.
    """

    tableau = Tableau(c=(0.0,), a=((),), b=(1.0,))
    info = SolverInfo(
        order=1,
        nfe_step=1,
        stability=2.0,
        calculus="ito",
        strong_order={"additive": 1.0, "diagonal": 0.5, "scalar": 0.5, "general": 0.5},
        weak_order=1.0,
        reference="Hairer, Nørsett & Wanner 1993, §I.7; Maruyama 1955",
    )


class Midpoint(ExplicitRungeKutta):
    """The explicit midpoint rule of Runge, y₁ = y₀ + h f(t₀ + h/2, y₀ + h/2 f(t₀, y₀)).

    Order 2, two stages, two evaluations a step. Not to be confused with the two-step midpoint rule
    y₊ = y₋ + 2hf, which is `Leapfrog` here.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0))
    info = SolverInfo(
        order=2,
        nfe_step=2,
        stability=2.0,
        calculus="stratonovich",
        strong_order=COMMUTATIVE,
        weak_order=1.0,
        reference="Runge 1895; Hairer, Nørsett & Wanner 1993, §II.1",
    )


class Heun(ExplicitRungeKutta):
    """Heun's method, the explicit trapezoidal rule: y₁ = y₀ + h/2 (f(t₀, y₀) + f(t₁, y₀ + h f(t₀, y₀))).

    Order 2, two stages, two evaluations a step; the difference to Euler's method estimates the error.
    Not to be confused with Heun's method of order 3, nor with `Ralston`.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 0.5), b_error=(-0.5, 0.5))
    info = SolverInfo(
        order=2,
        nfe_step=2,
        error_order=2,
        stability=2.0,
        calculus="stratonovich",
        strong_order=COMMUTATIVE,
        weak_order=1.0,
        reference="Heun 1900; Hairer, Nørsett & Wanner 1993, §II.1",
    )


class Ralston(ExplicitRungeKutta):
    """Ralston's method, y₁ = y₀ + h (1/4 f(t₀, y₀) + 3/4 f(t₀ + 2h/3, y₀ + 2h/3 f(t₀, y₀))).

    Order 2, two stages, two evaluations a step; of all such methods the one with the least bound on its local error.
    The difference to Euler's method estimates the error. Not to be confused with `Heun`, nor with Ralston's methods of
    order 3 and 4.

    Reference: Ralston, Runge–Kutta Methods with Minimum Error Bounds, Math. Comp. 16 (1962).
    """

    tableau = Tableau(c=(0.0, 2 / 3), a=((), (2 / 3,)), b=(1 / 4, 3 / 4), b_error=(-3 / 4, 3 / 4))
    info = SolverInfo(order=2, nfe_step=2, error_order=2, stability=2.0, reference="Ralston 1962")


class SSPRK3(ExplicitRungeKutta):
    """The method of Shu and Osher, a convex combination of Euler steps: it keeps what Euler's method does not increase.

    u₁ = E(y₀), u₂ = 3/4 y₀ + 1/4 E(u₁), y₁ = 1/3 y₀ + 2/3 E(u₂), where E(u) = u + h f(u). Order 3, three stages, three
    evaluations a step; strong stability preserving for steps as long as those of Euler's method. Not to be confused
    with Kutta's or Heun's methods of order 3, which do not have that property.

    Reference: Shu & Osher, J. Comput. Phys. 77 (1988); Gottlieb, Shu & Tadmor, SIAM Review 43 (2001), eq. 4.2.
    """

    tableau = Tableau(c=(0.0, 1.0, 0.5), a=((), (1.0,), (1 / 4, 1 / 4)), b=(1 / 6, 1 / 6, 2 / 3))
    info = SolverInfo(order=3, nfe_step=3, stability=2.51, reference="Shu & Osher 1988")


class RK4(ExplicitRungeKutta):
    """The classical Runge–Kutta method, with weights (1, 2, 2, 1)/6.

    Order 4, four stages, four evaluations a step. Not to be confused with the 3/8 rule, `RK38`, whose weights are
    (1, 3, 3, 1)/8 and which some libraries call rk4.

    Reference: Kutta 1901; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(
        c=(0.0, 0.5, 0.5, 1.0),
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )
    info = SolverInfo(order=4, nfe_step=4, stability=2.78, reference="Kutta 1901; Hairer, Nørsett & Wanner 1993, §II.1")


class RK38(ExplicitRungeKutta):
    """Kutta's 3/8 rule, with weights (1, 3, 3, 1)/8.

    Order 4, four stages, four evaluations a step. Not to be confused with the classical `RK4`.

    Reference: Kutta 1901; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, Table II.1.2.
    """

    tableau = Tableau(
        c=(0.0, 1 / 3, 2 / 3, 1.0),
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    )
    info = SolverInfo(
        order=4, nfe_step=4, stability=2.78, reference="Kutta 1901; Hairer, Nørsett & Wanner 1993, Table II.1.2"
    )
