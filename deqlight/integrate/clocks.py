"""Station: the clock, on the host. Times, steps and histories of all clocks, and what can go wrong with them."""

from __future__ import annotations

import numpy as np

from ..controllers import AdaptiveSteps
from ..errors import MaxSteps, NoConvergence, NonFinite, SolverFailure, StepUnderflow
from ..solvers import Solver
from ..times import Array, Places
from .stops import Bools, Stops

__all__ = ["Clocks", "Trial", "stiffness_hint"]

STRETCH = 1.01
"""A step that would end within a hundredth of its length before a stop is lengthened to land on it."""

UNDERFLOW = 10 * np.finfo(np.float64).eps
"""Smallest step relative to the time it starts from: below it, t + dt and t are the same number."""

NEAR_ZERO = 1e-18
"""Times below this, relative to the length of the solve, count as this: at zero any step would be long enough."""

HINT_NAN = (
    "Look at the field at that time for those samples: a division, a logarithm, weights that diverged, a step too long."
)
HINT_STIFF = (
    "Raise max_steps or loosen the tolerance; if steps are tiny for no visible reason, the field is stiff: use a "
    "solver for stiff fields (Kvaerno5, RadauIIA5, Rodas4)."
)
HINT_STEPS = "Raise max_steps, or loosen the tolerance."
HINT_JUMP = "Loosen the tolerance, look for a jump or a pole of the field near that time, or use float64."
HINT_INNER = (
    "Take shorter steps, loosen the tolerance, or use an explicit solver if the field is not stiff; in a network, use "
    "blocks whose Jacobian has no large positive eigenvalues, such as Antisymmetric."
)


def stiffness_hint(solver: Solver) -> str:
    """What to try where steps do not suffice."""
    return HINT_STEPS if solver.info.stability == float("inf") else HINT_STIFF


class Trial:
    """One attempted step of the running clocks.

    Attributes:
        t: where it begins, `(running,)`.
        end: where it would end.
        lands: whether that is the clock's next stop.
    """

    def __init__(self, t: Array, end: Array, lands: Bools) -> None:
        self.t, self.end, self.lands = t, end, lands


class Clocks:
    """The host's side of measured steps: one clock for each sample, or one for all.

    Args:
        stops: where they stop.
        controller: what chooses their steps.
        order: the order of the solver's error estimate.
        max_steps: most steps of a clock, tried ones included.
        hint: what to say where those do not suffice.
        batch: number of samples.
    """

    def __init__(
        self, stops: Stops, controller: AdaptiveSteps, order: int, max_steps: int, hint: str, batch: int
    ) -> None:
        self.stops, self.controller, self.order, self.max_steps, self.hint = stops, controller, order, max_steps, hint
        self.everyone = np.arange(batch)
        self.longest = np.inf if controller.dtmax is None else controller.dtmax
        n = len(stops.first)
        self.sign, self.span = stops.sign, np.abs(stops.times[stops.last] - stops.times[stops.first])
        self.t, self.goal = stops.times[stops.first].copy(), stops.first + 1
        self.dt, self.history = np.full(n, np.nan), np.ones((2, n))
        self.accepted, self.rejected = (np.zeros(n, dtype=np.int64) for _ in range(2))
        self.nfe = np.zeros(batch, dtype=np.int64)
        self.running: Places = np.arange(n)

    @property
    def end(self) -> Array:
        """Where each clock stops for good, `(clocks,)`."""
        return self.stops.times[self.stops.last]

    @property
    def samples(self) -> Places:
        """The samples of the running clocks."""
        return self.everyone if self.controller.joint else self.running

    def start(self, steps: Array) -> None:
        """Set the first steps."""
        self.dt = np.clip(steps, self.controller.dtmin, self.longest)

    def propose(self) -> Trial:
        """The next step of the running clocks; one that nearly reaches the stop lands on it."""
        on = self.running
        t, dt, goal = self.t[on], self.dt[on], self.stops.times[self.goal[on]]
        lands = np.abs(goal - t) <= np.minimum(dt * STRETCH, self.longest)
        with np.errstate(invalid="ignore"):  # unbounded steps always land
            return Trial(t, np.where(lands, goal, t + self.sign[on] * dt), lands)

    def advance(self, trial: Trial, errors: Array, held: bool = False) -> Bools:
        """Move the clocks whose error is small enough, choose all next steps, and say which moved.

        A step cut short to land keeps its length for later. If the step is `held`, clocks that might have moved try
        the same step again.
        """
        on, good, length = self.running, errors <= 1, np.abs(trial.end - trial.t)
        accept = good & (not held)
        new = length * self.controller.factors(errors, self.history[:, on], self.order)
        new = np.where(accept & trial.lands, np.maximum(new, self.dt[on]), new)
        new = np.clip(new, self.controller.dtmin, self.longest)
        self.dt[on] = np.where(good & held, self.dt[on], new)
        self.t[on] = np.where(accept, trial.end, trial.t)
        self.history[1, on] = np.where(accept, self.history[0, on], self.history[1, on])
        self.history[0, on] = np.where(accept, errors, self.history[0, on])
        self.accepted[on] += accept
        self.rejected[on] += ~good
        return np.asarray(accept)

    def failures(self, trial: Trial, errors: Array, converged: Bools, field: str) -> list[tuple[Bools, SolverFailure]]:
        """The running clocks that cannot go on, and why; after `advance`. `field` names what may be to blame."""
        on, accept = self.running, errors <= 1
        unresolved = self.dt[on] < UNDERFLOW * np.maximum(np.abs(self.t[on]), self.span[on] * NEAR_ZERO)
        shortest = np.abs(trial.end - trial.t) <= self.controller.dtmin * (1 + UNDERFLOW)
        done = accept & trial.lands & (self.goal[on] == self.stops.last[on])
        stuck = ~done & (unresolved | (~accept & shortest))
        spent = ~stuck & ~done & (self.accepted[on] + self.rejected[on] >= self.max_steps)
        if not (stuck | spent).any():
            return []
        kinds: list[tuple[Bools, type[SolverFailure], str, str]] = [
            (
                stuck & ~converged,
                NoConvergence,
                "the inner iteration did not converge, however short the step",
                HINT_INNER,
            ),
            (
                stuck & converged & ~np.isfinite(errors),
                NonFinite,
                f"the {field} or the state became NaN or infinite",
                HINT_NAN,
            ),
            (stuck & converged & np.isfinite(errors), StepUnderflow, self._underflow(), HINT_JUMP),
            (spent, MaxSteps, f"{self.max_steps} steps did not reach the end", self.hint),
        ]
        return [(mask, self.failure(mask, kind, what, hint)) for mask, kind, what, hint in kinds if mask.any()]

    def failure(self, mask: Bools, kind: type[SolverFailure], what: str, hint: str) -> SolverFailure:
        """The failure of the running clocks of the mask, with the place of the first."""
        first = int(self.running[mask][0])
        lost = self.everyone if self.controller.joint else self.running[mask]
        length = float(self.sign[first] * self.dt[first])
        dt = None if np.isnan(length) else length  # none was chosen yet
        t, nfe = float(self.t[first]), int(self.nfe[lost[0]])
        return kind(what, hint=hint, t=t, dt=dt, samples=[int(i) for i in lost], nfe=nfe)

    def _underflow(self) -> str:
        if self.controller.dtmin > 0:
            return f"the tolerance needs steps shorter than dtmin = {self.controller.dtmin:g}"
        return "the step became too small for time to resolve"
