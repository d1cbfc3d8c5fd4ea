"""AB3, the third-order method of Adams and Bashforth, as a plugin for deqlight."""

from deqlight.plugin import impl
from deqlight.solvers import Midpoint, Solver, SolverInfo, Step
from deqlight.terms import Term
from deqlight.types import Carry, State, Time

__all__ = ["AB3", "deqlight_solvers"]

WEIGHTS = (23 / 12, -16 / 12, 5 / 12)  # of the newest slope first; Hairer, Nørsett & Wanner 1993, §III.1, eq. (1.5)


class AB3(Solver):
    """The three-step Adams–Bashforth method, y₁ = y₀ + h/12 (23 f₀ − 16 f₋₁ + 5 f₋₂), on equal steps.

    Order 3, one evaluation a step; the first two steps are the midpoint rule's, at two. On layered blocks each layer
    adds its own slope and those of the two layers below it. Not to be confused with Adams–Moulton, which is implicit.

    Reference: Bashforth & Adams 1883; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1.
    """

    info = SolverInfo(order=3, nfe_step=1, nfe_start=2, uniform_steps=True, reference="Bashforth & Adams 1883")

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` holds the slopes of the two steps before, the newest first."""
        slopes = (term.vf(t0, y0), *(carry or ()))
        if len(slopes) < len(WEIGHTS):
            y1 = Midpoint().step(term, t0, t1, y0, slopes[0]).y  # the slope at t0 is the midpoint rule's first stage
        else:
            y1 = term.advance(y0, WEIGHTS, slopes, term.control(t0, t1))
        return Step(y1, slopes[:2])


@impl
def deqlight_solvers() -> list[type[Solver]]:
    """Brings AB3 to `deqlight fit --model.net.solver AB3`."""
    return [AB3]
