"""Station: the clock, on the host. Times, steps and histories of all clocks, and what can go wrong with them."""

from __future__ import annotations

import numpy as np

from ..controllers import AdaptiveSteps
from ..errors import SolverFailure
from ..times import Array, Places
from .failing import Cause, Limits, causes
from .pace import Pace, Rules, Trial
from .stops import Bools, Stops

__all__ = ["Clocks"]


class Clocks:
    """The host's side of measured steps: one clock for each sample.

    Attributes `running`, `pace`, `goal`, `last`, `end`, `sign` are of the clocks that run, the others of all.

    Args:
        stops: where they stop.
        controller: what chooses their steps.
        order: the order of the solver's error estimate.
        max_steps: most steps of a clock, tried ones included.
        hint: what to say where those do not suffice.
    """

    def __init__(self, stops: Stops, controller: AdaptiveSteps, order: float, max_steps: int, hint: str) -> None:
        self.stops, self.controller = stops, controller
        self.limits = Limits(controller.dtmin, max_steps, hint)
        self.rules, n = Rules(controller, order), len(stops.first)
        self.running: Places = np.arange(n)
        self.goal, self.last = stops.first + 1, stops.last
        self.sign, self.end = stops.sign, stops.times[stops.last]
        self.span = np.abs(self.end - stops.times[stops.first])
        self.pace = Pace(stops.times[stops.first], np.full(n, np.nan), np.ones(n), np.ones(n))
        self.accepted, self.rejected, self.nfe = (np.zeros(n, dtype=np.int64) for _ in range(3))

    def start(self, steps: Array) -> None:
        """Set the first steps."""
        self.pace = self.pace._replace(dt=np.clip(steps, self.controller.dtmin, self.rules.longest))

    def propose(self) -> Trial:
        """The next step of the running clocks."""
        with np.errstate(invalid="ignore"):  # unbounded steps always land
            return self.rules.propose(self.pace, self.stops.times[self.goal], self.sign)

    def advance(self, trial: Trial, errors: Array, held: bool = False) -> Bools:
        """Move the clocks whose error is small enough, choose all next steps, and say which moved."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.pace, accept = self.rules.advance(self.pace, trial, errors, held)
        self.accepted[self.running] += accept
        self.rejected[self.running] += ~(errors <= 1)
        return np.asarray(accept)

    def keep(self, going: Bools) -> None:
        """Let the other clocks leave."""
        self.running, self.goal, self.last = self.running[going], self.goal[going], self.last[going]
        self.sign, self.end, self.span = self.sign[going], self.end[going], self.span[going]
        self.pace = Pace(*(x[going] for x in self.pace))

    def failures(self, trial: Trial, errors: Array, converged: Bools, field: str) -> list[tuple[Bools, SolverFailure]]:
        """The running clocks that cannot go on, and why; after `advance`. `field` names what may be to blame."""
        accept = errors <= 1
        done = accept & trial.lands & (self.goal == self.last)
        stuck = self.rules.stuck(self.pace, trial, accept, self.span) & ~done
        spent = ~done & (self.accepted[self.running] + self.rejected[self.running] >= self.limits.max_steps)
        if not (stuck.any() or spent.any()):
            return []
        found = causes(stuck, spent, converged, errors, field, self.limits)
        return [(cause.clocks, self.failure(cause)) for cause in found]

    def failure(self, cause: Cause) -> SolverFailure:
        """The failure of some running clocks, with the place of the first."""
        first, lost = int(cause.clocks.nonzero()[0][0]), self.running[cause.clocks]
        length = float(self.sign[first] * self.pace.dt[first])
        dt = None if np.isnan(length) else length  # none was chosen yet
        t, nfe = float(self.pace.t[first]), int(self.nfe[lost[0]])
        return cause.kind(cause.what, hint=cause.hint, t=t, dt=dt, samples=[int(i) for i in lost], nfe=nfe)
