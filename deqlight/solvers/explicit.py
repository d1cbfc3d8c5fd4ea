"""Station: the integrator. Explicit Runge–Kutta methods: each is a tableau and what is known of it."""

from __future__ import annotations

from abc import abstractmethod

from ..terms import Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step
from .tableau import Tableau

__all__ = ["RK4", "Dopri5", "Euler", "ExplicitRungeKutta", "Heun", "Midpoint"]


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
        tableau = self.tableau
        control = term.control(t0, t1)
        stages = [term.vf(t0, y0) if carry is None else carry]
        y = y0
        for node, row in zip(tableau.c[1:], tableau.a[1:], strict=True):
            y = term.advance(y0, row, stages, control)
            stages.append(term.vf(t0 + node * (t1 - t0), y))
        y1 = y if tableau.fsal else term.advance(y0, tableau.b, stages, control)
        error = None if tableau.b_error is None else term.increment(tableau.b_error, stages, control)
        return Step(y1, None if carry is None else stages[-1], error)


class Euler(ExplicitRungeKutta):
    """The explicit Euler method, y₁ = y₀ + h f(t₀, y₀).

    Order 1, one stage, one evaluation a step. On a layered term with unit steps it is a residual network
    (He et al. 2016; E 2017). Not to be confused with `SymplecticEuler`, which updates one half after the other.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §I.7.
    """

    tableau = Tableau(c=(0.0,), a=((),), b=(1.0,))
    info = SolverInfo(order=1, nfe_step=1, reference="Hairer, Nørsett & Wanner 1993, §I.7")


class Midpoint(ExplicitRungeKutta):
    """The explicit midpoint rule of Runge, y₁ = y₀ + h f(t₀ + h/2, y₀ + h/2 f(t₀, y₀)).

    Order 2, two stages, two evaluations a step. Not to be confused with the two-step midpoint rule
    y₊ = y₋ + 2hf, which is `Leapfrog` here.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(c=(0.0, 0.5), a=((), (0.5,)), b=(0.0, 1.0))
    info = SolverInfo(order=2, nfe_step=2, reference="Runge 1895; Hairer, Nørsett & Wanner 1993, §II.1")


class Heun(ExplicitRungeKutta):
    """Heun's method, the explicit trapezoidal rule: y₁ = y₀ + h/2 (f(t₀, y₀) + f(t₁, y₀ + h f(t₀, y₀))).

    Order 2, two stages, two evaluations a step; the difference to Euler's method estimates the error.
    Not to be confused with Heun's method of order 3, nor with Ralston's of order 2.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(c=(0.0, 1.0), a=((), (1.0,)), b=(0.5, 0.5), b_error=(-0.5, 0.5))
    info = SolverInfo(order=2, nfe_step=2, error_order=2, reference="Heun 1900; Hairer, Nørsett & Wanner 1993, §II.1")


class RK4(ExplicitRungeKutta):
    """The classical Runge–Kutta method, with weights (1, 2, 2, 1)/6.

    Order 4, four stages, four evaluations a step. Not to be confused with the 3/8 rule, whose weights are
    (1, 3, 3, 1)/8 and which some libraries call rk4.

    Reference: Kutta 1901; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §II.1.
    """

    tableau = Tableau(
        c=(0.0, 0.5, 0.5, 1.0),
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )
    info = SolverInfo(order=4, nfe_step=4, reference="Kutta 1901; Hairer, Nørsett & Wanner 1993, §II.1")


class Dopri5(ExplicitRungeKutta):
    """The method of Dormand and Prince, order 5 with an embedded one of order 4.

    Order 5, seven stages, six evaluations a step after the first (the last stage is the next step's first); on a
    layered term, where the next layer's field is another, seven. The usual choice under a `PID` controller.
    Not to be confused with Dormand and Prince's method of order 8.

    Reference: Dormand & Prince, J. Comput. Appl. Math. 6 (1980); Hairer, Nørsett & Wanner, §II.5, Table 5.2.
    """

    tableau = Tableau(
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        b_error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    )
    info = SolverInfo(
        order=5,
        nfe_step=6,
        nfe_start=1,
        error_order=5,
        fsal=True,
        continuous_field=True,
        reference="Dormand & Prince 1980; Hairer, Nørsett & Wanner 1993, Table II.5.2",
    )
