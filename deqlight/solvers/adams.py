"""Station: the integrator. The methods of Adams on equal steps, and those of Adams and Moulton as correctors."""

from __future__ import annotations

from abc import abstractmethod

from ..terms import Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step
from .explicit import RK4, Heun, cubic

__all__ = ["AB1", "AB3", "AB4", "ABM2", "ABM3", "ABM4", "Adams"]

AM2 = (1 / 2, 1 / 2)
AM3 = (5 / 12, 8 / 12, -1 / 12)
AM4 = (9 / 24, 19 / 24, -5 / 24, 1 / 24)
"""The weights of Adams and Moulton, that of the slope at the end of the step first."""


class Adams(Solver):
    """Any method of Adams on equal steps: a subclass gives `predictor` and `info`, and may give `corrector`.

    With a corrector a step predicts, evaluates, corrects, and evaluates at the corrected state when the next step
    begins (PECE). Until there are slopes enough, `starter` makes the steps, from the same first slope.
    """

    corrector: tuple[float, ...] = ()
    """The weights of the corrector, the newest slope first: that at the predicted end of the step."""

    starter: Solver = Heun()
    """Makes the first steps; its memory is its first stage."""

    @property
    @abstractmethod
    def predictor(self) -> tuple[float, ...]:
        """The weights of the slopes, the newest first; a subclass has them as a class attribute."""

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` holds the slopes of the steps before, the newest first."""
        slopes = (term.vf(t0, y0), *(carry or ()))
        memory = slopes[: len(self.predictor) - 1]
        if len(slopes) < len(self.predictor):
            return Step(self.starter.step(term, t0, t1, y0, slopes[0]).y, memory, slopes=slopes[:1])
        control = term.control(t0, t1)
        y1 = term.advance(y0, self.predictor, slopes, control)
        if self.corrector:
            ahead = (term.vf(t1, y1), *slopes)
            y1 = term.advance(y0, self.corrector, ahead[: len(self.corrector)], control)
        return Step(y1, memory, slopes=slopes[:1])

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """Hermite's cubic, at one evaluation: the slope at the start is known."""
        return cubic(term, t0, t1, y0, step)


class AB1(Adams):
    """The one-step Adams–Bashforth method, y₁ = y₀ + h f(t₀, y₀): Euler's method as the first of its family.

    Order 1, one evaluation a step; steps may differ in length. Equal to `Euler`, number for number. Not to be confused
    with `AB2` on its first step, which is the same, nor with the implicit method of Euler, the first of Adams–Moulton.

    Reference: Bashforth & Adams 1883; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = (1.0,)
    info = SolverInfo(order=1, nfe_step=1, stability=2.0, reference="Bashforth & Adams 1883")


class AB3(Adams):
    """The three-step Adams–Bashforth method, y₁ = y₀ + h/12 (23 f₀ − 16 f₋₁ + 5 f₋₂), on equal steps.

    Order 3, one evaluation a step; the first two steps are Heun's, at two. Not to be confused with `ABM3`, which
    corrects.

    Reference: Bashforth & Adams 1883; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = (23 / 12, -16 / 12, 5 / 12)
    info = SolverInfo(
        order=3,
        nfe_step=1,
        nfe_start=2,
        stability=0.54,
        steps=3,
        uniform_steps=True,
        reference="Bashforth & Adams 1883; Hairer, Nørsett & Wanner 1993, §III.1",
    )


class AB4(Adams):
    """The four-step Adams–Bashforth method, y₁ = y₀ + h/24 (55 f₀ − 59 f₋₁ + 37 f₋₂ − 9 f₋₃), on equal steps.

    Order 4, one evaluation a step; the first three steps are those of `RK4`, at four. Not to be confused with `ABM4`,
    which corrects.

    Reference: Bashforth & Adams 1883; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = (55 / 24, -59 / 24, 37 / 24, -9 / 24)
    starter = RK4()
    info = SolverInfo(
        order=4,
        nfe_step=1,
        nfe_start=9,
        stability=0.3,
        steps=4,
        uniform_steps=True,
        reference="Bashforth & Adams 1883; Hairer, Nørsett & Wanner 1993, §III.1",
    )


class ABM2(Adams):
    """The two-step method of Adams, Bashforth and Moulton on equal steps: predicts as `AB2`, corrects by trapezoids.

    p = y₀ + h/2 (3 f₀ − f₋₁), y₁ = y₀ + h/2 (f(t₁, p) + f₀), evaluated anew at y₁ (PECE). Order 2, two evaluations a
    step; the first step is Heun's. Not to be confused with `Heun`, which predicts by Euler's method.

    Reference: Moulton 1926; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = (3 / 2, -1 / 2)
    corrector = AM2
    info = SolverInfo(
        order=2,
        nfe_step=2,
        stability=1.99,
        steps=2,
        uniform_steps=True,
        reference="Moulton 1926; Hairer, Nørsett & Wanner 1993, §III.1",
    )


class ABM3(Adams):
    """The three-step method of Adams, Bashforth and Moulton on equal steps: predicts as `AB3`, then corrects.

    p = y₀ + h/12 (23 f₀ − 16 f₋₁ + 5 f₋₂), y₁ = y₀ + h/12 (5 f(t₁, p) + 8 f₀ − f₋₁), evaluated anew at y₁ (PECE).
    Order 3, two evaluations a step; the first two steps are Heun's. Not to be confused with `AB3`, which does not
    correct.

    Reference: Moulton 1926; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = AB3.predictor
    corrector = AM3
    info = SolverInfo(
        order=3,
        nfe_step=2,
        stability=1.72,
        steps=3,
        uniform_steps=True,
        reference="Moulton 1926; Hairer, Nørsett & Wanner 1993, §III.1",
    )


class ABM4(Adams):
    """The four-step method of Adams, Bashforth and Moulton on equal steps: predicts as `AB4`, then corrects.

    p as `AB4`, y₁ = y₀ + h/24 (9 f(t₁, p) + 19 f₀ − 5 f₋₁ + f₋₂), evaluated anew at y₁ (PECE). Order 4, two evaluations
    a step; the first three steps are those of `RK4`, at four. Not to be confused with Milne's method, whose corrector
    is Simpson's rule.

    Reference: Moulton 1926; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    predictor = AB4.predictor
    corrector = AM4
    starter = RK4()
    info = SolverInfo(
        order=4,
        nfe_step=2,
        nfe_start=6,
        stability=1.28,
        steps=4,
        uniform_steps=True,
        reference="Moulton 1926; Hairer, Nørsett & Wanner 1993, §III.1",
    )
