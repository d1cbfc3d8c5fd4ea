"""AB5, the fifth-order method of Adams and Bashforth, as a plugin for deqlight."""

from deqlight.plugin import impl
from deqlight.solvers import RK4, Solver, SolverInfo, Step
from deqlight.terms import Term
from deqlight.types import Carry, State, Time

__all__ = ["AB5", "deqlight_solvers"]

# of the newest slope first; Hairer, Nørsett & Wanner 1993, §III.1, eq. (1.5)
WEIGHTS = (1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720)


class AB5(Solver):
    """The five-step Adams–Bashforth method on equal steps.

    y₁ = y₀ + h/720 (1901 f₀ − 2774 f₋₁ + 2616 f₋₂ − 1274 f₋₃ + 251 f₋₄). Order 5, one evaluation a step; the first four
    steps are those of `RK4`, at four. On layered blocks each layer adds its own slope and those of the four layers
    below it. Not to be confused with Adams–Moulton, which is implicit.

    Reference: Bashforth & Adams 1883; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    info = SolverInfo(
        order=5, nfe_step=1, nfe_start=12, steps=5, uniform_steps=True, reference="Bashforth & Adams 1883"
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` holds the slopes of the four steps before, the newest first."""
        slopes = (term.vf(t0, y0), *(carry or ()))
        if len(slopes) < len(WEIGHTS):
            y1 = RK4().step(term, t0, t1, y0, slopes[0]).y  # the slope at t0 is the first stage of RK4
        else:
            y1 = term.advance(y0, WEIGHTS, slopes, term.control(t0, t1))
        return Step(y1, slopes[:4])


@impl
def deqlight_solvers() -> list[type[Solver]]:
    """Brings AB5 to `deqlight fit --model.net.solver AB5`."""
    return [AB5]
