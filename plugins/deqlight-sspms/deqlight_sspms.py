"""SSPMS32, a multistep method that preserves strong stability, as a plugin for deqlight."""

from deqlight.plugin import impl
from deqlight.solvers import Heun, Solver, SolverInfo, Step
from deqlight.terms import Term, combine
from deqlight.types import Carry, State, Time

__all__ = ["SSPMS32", "deqlight_solvers"]


class SSPMS32(Solver):
    """Shu's three-step method, y₁ = 3/4 y₀ + 1/4 y₋₂ + 3/2 h f(t₀, y₀), on equal steps.

    Order 2, one evaluation a step; the first two steps are those of `Heun`, at two. Each step is an average of Euler
    steps: what Euler's method keeps bounded, this one does at half the length. On layers, a residual network that
    looks three layers back. Not to be confused with `LinearTwoStep`, which looks two back, nor with `SSPRK3`.

    Reference: Shu, SIAM J. Sci. Stat. Comput. 9 (1988); Gottlieb, Shu & Tadmor, SIAM Review 43 (2001), §5.
    """

    info = SolverInfo(
        order=2, nfe_step=1, nfe_start=2, steps=3, stability=1.33, uniform_steps=True, reference="Shu 1988"
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` holds the states of the two steps before, the newest first."""
        past: tuple[State, ...] = carry or ()
        now = (y0, *past)[:2]
        if len(past) < 2:
            return Step(Heun().step(term, t0, t1, y0, None).y, now)
        average = combine([3 / 4, 1 / 4], [y0, past[1]])
        return Step(term.advance(average, [3 / 2], [term.vf(t0, y0)], term.control(t0, t1)), now)


@impl
def deqlight_solvers() -> list[type[Solver]]:
    """Brings SSPMS32 to `deqlight fit --model.net.solver SSPMS32`."""
    return [SSPMS32]
