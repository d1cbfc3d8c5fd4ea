"""Station: the clock, with measured steps that each sample takes by itself."""

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
from ..times import Array, Places, column
from ..types import Carry, State, Tensor
from ._given import Given
from .clocks import Clocks
from .failing import HINT_NAN, Cause, stiffness_hint
from .moves import Move, Opening, Renewal, Took, Watch, renewed, some, taken
from .outputs import Outputs
from .pace import Trial
from .stepper import Stepper
from .stops import Bools, inside, stops_of

__all__ = ["Measured"]


class Measured:
    """The loop with measured steps. Rejected samples try again with a smaller step while the others go on.

    Samples that have finished leave the field's calls, and so do those that failed, where the others may go on.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps, watch: Watch | None = None) -> None:
        self.problem, self.controller, self.tally, self.watch = problem, controller, Tally(), watch
        stops = stops_of(problem)
        hint = stiffness_hint(problem.solver)
        self.clocks = Clocks(stops, controller, problem.error_order, problem.max_steps, hint)
        self.stepper = Stepper(problem, controller, self.tally)
        self.outputs = Outputs(problem.y0, stops.size)
        self.restarts = sorted(problem.restarts())
        self.failures: list[SolverFailure] = []

    def run(self) -> Path:
        """Step until every clock has reached its end."""
        term, y, carry = self.stepper.term, self.problem.y0, None
        if self.problem.batch:
            self.outputs.keep(self._slots(self.clocks.stops.first), y)
            term, y, carry = self._start(term, y)
        while self.clocks.running.size:
            y, carry, gone = self._step(term, y, carry)
            if gone.any():
                term, y, carry = self._leave(~gone, term, y, carry)
        return self._path(carry)

    def _start(self, term: Term, y: State) -> tuple[Term, State, Carry]:
        """First steps and the solver's memory; samples whose field is not finite fail at once."""
        clocks = self.clocks
        t0, t1 = self._times(clocks.pace.t, clocks.stops.times[clocks.goal])
        with torch.no_grad():  # it measures; and a NaN among it must not reach the gradient of others
            f0 = y if isinstance(self.controller, Given) else self.stepper.counted(term).over(t0, t1).slope_at(t0, y)
        clocks.start(self.controller.first_steps(y, f0, clocks.rules.order, clocks.span))
        clocks.nfe += self.tally.calls
        lost = np.isnan(clocks.pace.dt)
        if lost.any():
            what = f"the {self.tally.field} is NaN or infinite at the start"
            self._fail(clocks.failure(Cause(lost, NonFinite, what, HINT_NAN)))
            term, y, _ = self._leave(~lost, term, y, None)
        if not clocks.running.size:
            return term, y, None
        opening = Opening(clocks.running, *self._times(clocks.pace.t, clocks.end))
        calls = self.tally.calls
        carry = self.problem.solver.init(self.stepper.counted(term), opening.t0, opening.t1, y)
        clocks.nfe[clocks.running] += self.tally.calls - calls
        if self.watch is not None:
            self.watch.began(opening, y, carry)
        return term, y, carry

    def _step(self, term: Term, y: State, carry: Carry) -> tuple[State, Carry, Bools]:
        """Try a step; the state and memory after it, and which of the running clocks are done."""
        clocks, trial, calls = self.clocks, self.clocks.propose(), self.tally.calls
        times = self._times(trial.t, trial.end)
        over = term.over(*times)
        step, measured = self.stepper(over, *times, y, carry)
        errors = measured.double().cpu().numpy()
        converged = self._converged(step)
        errors = errors if step.inner is None else np.where(converged, errors, np.nan)
        clocks.nfe[clocks.running] += self.tally.calls - calls if step.inner is None else step.inner.nfe.numpy()
        # a thrown-away NaN would still poison the gradient: then no sample takes this step
        poisoned = not np.isfinite(errors).all() and any(leaf.requires_grad for leaf in leaves(step.y))
        accept = clocks.advance(trial, errors, held=poisoned)
        if self.problem.saveat.dense and accept.any():
            self._draw(over, y, step, trial, accept)
        lost = np.zeros_like(accept)
        for mask, failure in clocks.failures(trial, errors, converged, self.tally.field):
            self._fail(failure)
            lost |= mask
        y1, carry1 = taken(accept, step[:2], (y, carry))
        slots, renewal, carry1 = self._settle(term, y1, carry1, accept & trial.lands & ~lost)
        gone = lost | (clocks.goal > clocks.last)
        if self.watch is not None and accept.any():
            move = Move(clocks.running, *times, accept, slots, renewal)
            ended = self.watch.moved(Took(move, self.stepper.counted(over), y, step, y1, carry1, trial.t, trial.end))
            gone = gone if ended is None else gone | ended
        return y1, carry1, gone

    def _settle(self, term: Term, y: State, carry: Carry, landed: Bools) -> tuple[Places | None, Renewal | None, Carry]:
        """Keep the states of clocks that have landed; where that is on a jump, the solver's memory begins anew."""
        if not landed.any():
            return None, None, carry
        clocks, calls = self.clocks, self.tally.calls
        slots = self._slots(np.where(landed, clocks.goal, -1))
        self.outputs.keep(slots, y)
        renewal = self._renewal(landed)
        if renewal is not None:
            carry = renewed(self.problem.solver, self.stepper.counted(term), y, carry, renewal)
            rows = clocks.running if renewal.places is None else clocks.running[renewal.places]
            clocks.nfe[rows] += self.tally.calls - calls
        clocks.goal = clocks.goal + landed
        return slots, renewal, carry

    def _converged(self, step: Step) -> Bools:
        """For each running clock, whether the inner iterations of its sample ended well, or in the field's NaN."""
        if step.inner is None:
            return np.ones(self.clocks.running.size, dtype=bool)
        converged: Bools = step.inner.converged.numpy()
        return converged if converged.all() else converged | ~finite_samples(step.y).numpy()

    def _fail(self, failure: SolverFailure) -> None:
        """Raise the failure, or note it where the others may go on."""
        if not self.problem.freeze:
            raise failure
        self.failures.append(failure)

    def _slots(self, stops: Places) -> Places:
        """Where the states of the running clocks are kept that stand on these stops; -1 for those between stops."""
        marks = self.clocks.stops
        slots = np.where(stops < 0, -1, marks.slots[stops])
        return np.where(slots < 0, -1, slots + marks.stride * self.clocks.running)

    def _renewal(self, landed: Bools) -> Renewal | None:
        """Where clocks have landed on a jump of the field, the solver's memory is made anew behind it."""
        clocks = self.clocks
        places = (landed & clocks.stops.restarts[clocks.goal]).nonzero()[0]
        if not len(places):
            return None
        times = self._times(clocks.pace.t[places], clocks.end[places])
        return Renewal(None if len(places) == len(landed) else places, *times)

    def _draw(self, term: Term, y: State, step: Step, trial: Trial, accept: Bools) -> None:
        """Keep the accepted steps as polynomials."""
        places, calls = accept.nonzero()[0], self.tally.calls
        if len(places) < len(accept):
            term, y = term.rows(self._index(places)), some(y, places)
            step = some(step._replace(inner=None), places)
        start, end, samples = trial.t[places], trial.end[places], self.clocks.running[places]
        coefficients = self.problem.solver.dense(self.stepper.counted(term), *self._times(start, end), y, step)
        self.clocks.nfe[samples] += self.tally.calls - calls
        self.outputs.draw(samples, start, end, coefficients)

    def _leave(self, going: Bools, term: Term, y: State, carry: Carry) -> tuple[Term, State, Carry]:
        """Let clocks leave: the field is called for the others alone."""
        self.clocks.keep(going)
        if not going.any():
            return term, y, carry
        places = going.nonzero()[0]
        return term.rows(self._index(places)), *some((y, carry), places)

    def _times(self, start: Array, end: Array) -> tuple[Tensor, Tensor]:
        """Host times as the solver gets them: float64 `(batch, 1, …)`.

        A step that touches a jump of the field stays on its own side of it.
        """
        first = leaves(self.problem.y0)[0]
        if self.restarts:
            start, end = inside(start, end, self.restarts, torch.finfo(first.dtype).eps)
        return column(start, first), column(end, first)

    def _index(self, places: Places) -> Tensor:
        return torch.as_tensor(places, device=leaves(self.problem.y0)[0].device)

    def _path(self, carry: Carry) -> Path:
        p, clocks = self.problem, self.clocks
        nfe, accepted, rejected = (torch.as_tensor(n) for n in (clocks.nfe, clocks.accepted, clocks.rejected))
        stats = Stats(nfe, accepted, rejected)
        dense = Dense(self.outputs.segments, p.host_ends) if p.saveat.dense else None
        kept = self.outputs.gathered() if dense is None or clocks.stops.size else p.between(dense)
        return Path(p.shaped(kept), carry, stats, dense, tuple(self.failures))
