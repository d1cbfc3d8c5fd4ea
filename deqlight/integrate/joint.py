"""Station: the clock, with measured steps that all samples take together. Time is a Python float."""

from __future__ import annotations

import numpy as np
import torch

from ..controllers import AdaptiveSteps
from ..errors import NonFinite, SolverFailure
from ..interpolation import Dense
from ..problem import Path, Problem
from ..solution import Stats, Tally
from ..solvers import Step
from ..states import finite_samples, leaves
from ..terms import Term
from ..times import Places
from ..types import Carry, State, Tensor
from .failing import HINT_NAN, Limits, causes, stiffness_hint
from .moves import Move, Opening, Renewal, Took, Watch, renewed, some, taken
from .outputs import Outputs
from .pace import Pace, Rules, Trial
from .stepper import Stepper
from .stops import Bools, inside, stops_of

__all__ = ["Joint"]


class Joint:
    """The loop with measured steps, one clock for all samples. A failure of one is a failure of all."""

    def __init__(self, problem: Problem, controller: AdaptiveSteps, watch: Watch | None = None) -> None:
        self.problem, self.controller, self.watch = problem, controller, watch
        self.tally, self.rules = Tally(), Rules(controller, problem.error_order)
        self.stepper = Stepper(problem, controller, self.tally)
        self.term = self.stepper.term
        self.stops, self.eps = stops_of(problem), torch.finfo(leaves(problem.y0)[0].dtype).eps
        self.times: list[float] = self.stops.times.tolist()
        self.sign, self.span = float(self.stops.sign[0]), abs(self.times[-1] - self.times[0])
        self.restarts = sorted(problem.restarts())
        self.outputs = Outputs(problem.y0, self.stops.size)
        self.goal, self.accepted, self.rejected = 1, 0, 0
        self.inner = torch.zeros(problem.batch, dtype=torch.int64)  # evaluations that samples made on their own
        self.pace = Pace(self.times[0], float("nan"), 1.0, 1.0)
        self.held: Bools | None = None  # the samples that have ended

    def run(self) -> Path:
        """Step until the clock has reached its end."""
        y, carry = self.problem.y0, None
        if self.problem.batch:
            y, carry = self._start(y)
        while self.problem.batch and self.goal < len(self.times):
            y, carry = self._step(y, carry)
        return self._path(carry)

    def _start(self, y: State) -> tuple[State, Carry]:
        """The first step, and the solver's memory."""
        t0, t1 = self._inside(self.times[0], self.times[1])
        self.outputs.keep(self._slots(0), y)
        with torch.no_grad():  # it measures
            f0 = self.stepper.counted(self.term).over(t0, t1).slope_at(t0, y)
        first = self.controller.first_steps(y, f0, self.rules.order, np.array([self.span]))
        if np.isnan(first[0]):
            what = f"the {self.tally.field} is NaN or infinite at the start"
            raise self._failure(NonFinite, what, HINT_NAN, finite_samples(f0))
        step = min(max(float(first[0]), self.controller.dtmin), self.rules.longest)
        self.pace = self.pace._replace(dt=step)
        opening = Opening(None, *self._inside(self.times[0], self.times[-1]))
        carry = self.problem.solver.init(self.stepper.counted(self.term), opening.t0, opening.t1, y)
        if self.watch is not None:
            self.watch.began(opening, y, carry)
        return y, carry

    def _step(self, y: State, carry: Carry) -> tuple[State, Carry]:
        """Try a step; the state and memory after it."""
        trial = self.rules.propose(self.pace, self.times[self.goal], self.sign)
        t0, t1 = self._inside(trial.t, trial.end)
        term, calls = self.term.over(t0, t1), self.tally.calls
        step, measured = self.stepper(term, t0, t1, y, carry)
        error, converged = float(measured if self.held is None else self._going(measured, y, step)), True
        if step.inner is not None:
            self.inner += step.inner.nfe
            self.tally.calls = calls
            converged = bool((step.inner.converged | ~finite_samples(step.y) | self._ended).all())
            error = error if converged else float("nan")
        self.pace, accept = self.rules.advance(self.pace, trial, error)
        self.accepted, self.rejected = self.accepted + accept, self.rejected + (not accept)
        ends = accept and trial.lands and self.goal == len(self.times) - 1
        if not ends:
            self._check(trial, error, accept, converged, step)
        return self._settle(term, (y, carry), step, trial, (t0, t1)) if accept else (y, carry)

    @property
    def _ended(self) -> Tensor:
        """Which samples have ended, `(batch,)`."""
        held = np.zeros(self.problem.batch, dtype=bool) if self.held is None else self.held
        return torch.as_tensor(held)

    def _going(self, measured: Tensor, y: State, step: Step) -> Tensor:
        """The error of the samples that have not ended; `measured` is that of all, which a graph returns alone."""
        if step.error is None:
            return measured
        return self.controller.errors(*some((step.error, y, step.y), (~self._ended).numpy().nonzero()[0]))

    def _settle(
        self, term: Term, before: tuple[State, Carry], step: Step, trial: Trial, times: tuple[float, float]
    ) -> tuple[State, Carry]:
        """Take the step: states are kept, memory is begun anew, samples may end."""
        takes = None if self.held is None else ~self.held
        y, carry = taken(takes, step[:2], before)
        if self.problem.saveat.dense:
            everyone = np.arange(self.problem.batch)
            start, end = (np.full(self.problem.batch, t) for t in (trial.t, trial.end))
            coefficients = self.problem.solver.dense(self.stepper.counted(term), *times, before[0], step)
            self.outputs.draw(everyone, start, end, coefficients)
        slots, renewal = None, None
        if trial.lands:
            slots, renewal = self._slots(self.goal), self._renewal()
            self.outputs.keep(slots, y)
            carry = renewed(self.problem.solver, self.stepper.counted(self.term), y, carry, renewal)
            self.goal += 1
        if self.watch is not None:
            start, end = (np.full(self.problem.batch, t) for t in (trial.t, trial.end))
            move = Move(None, *times, takes, slots, renewal)
            self._show(Took(move, self.stepper.counted(term), before[0], step, y, carry, start, end))
        return y, carry

    def _show(self, took: Took) -> None:
        ended = self.watch.moved(took) if self.watch is not None else None
        if ended is not None:
            self.held = ended if self.held is None else self.held | ended
            self.goal = len(self.times) if self.held.all() else self.goal

    def _check(self, trial: Trial, error: float, accept: bool, converged: bool, step: Step) -> None:
        """Raise, if the clock cannot go on."""
        stuck = self.rules.stuck(self.pace, trial, accept, self.span)
        spent = self.accepted + self.rejected >= self.problem.max_steps
        if not (stuck or spent):
            return
        stopped, out, ended = (np.array([flag]) for flag in (stuck, spent, converged))
        limits = Limits(self.controller.dtmin, self.problem.max_steps, stiffness_hint(self.problem.solver))
        cause = causes(stopped, out, ended, np.array([error]), self.tally.field, limits)[0]
        good = finite_samples(step.y)
        good = (good if step.inner is None else good & step.inner.converged) | self._ended
        raise self._failure(cause.kind, cause.what, cause.hint, good)

    def _failure(self, kind: type[SolverFailure], what: str, hint: str, good: Tensor) -> SolverFailure:
        """The failure, with its place; `good` are the samples that are not to blame."""
        guilty = [int(i) for i in (~good).nonzero().flatten()] or list(range(self.problem.batch))
        length = self.sign * self.pace.dt
        dt = None if np.isnan(length) else length  # none was chosen yet
        nfe = self.tally.calls + int(self.inner[guilty[0]])
        return kind(what, hint=hint, t=self.pace.t, dt=dt, samples=guilty, nfe=nfe)

    def _inside(self, start: float, end: float) -> tuple[float, float]:
        """The ends of a step that touches no jump of the field but stays on its own side."""
        if not self.restarts:
            return start, end
        moved = inside(np.array([start]), np.array([end]), self.restarts, self.eps)
        return float(moved[0][0]), float(moved[1][0])

    def _slots(self, stop: int) -> Places | None:
        """Where the states of all samples are kept at a stop."""
        first = int(self.stops.slots[stop])
        return None if first < 0 else first + self.stops.stride * np.arange(self.problem.batch)

    def _renewal(self) -> Renewal | None:
        if not self.stops.restarts[self.goal]:
            return None
        return Renewal(None, *self._inside(self.pace.t, self.times[-1]))

    def _path(self, carry: Carry) -> Path:
        p = self.problem
        accepted, rejected = (torch.full((p.batch,), n) for n in (self.accepted, self.rejected))
        stats = Stats(self.inner + self.tally.calls, accepted, rejected)
        dense = Dense(self.outputs.segments, p.host_ends) if p.saveat.dense else None
        kept = self.outputs.gathered() if dense is None or self.stops.size else p.between(dense)
        return Path(p.shaped(kept), carry, stats, dense)
