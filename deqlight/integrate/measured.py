"""Station: the clock, with steps by the measured error: one clock for each sample, or one for all."""

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
from ..types import Carry, State, Tensor, Time
from ._given import Given
from .clocks import HINT_NAN, Clocks, Trial, stiffness_hint
from .moves import Move, Opening, Renewal, Took, Watch, renewed, some, taken
from .outputs import Outputs
from .stops import Bools, inside, stops_of

__all__ = ["Measured"]


class Measured:
    """The loop with measured steps. Rejected samples try again with a smaller step while the others go on.

    Samples that have finished leave the field's calls, and so do those that failed, where the others may go on.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps, watch: Watch | None = None) -> None:
        self.problem, self.controller, self.tally, self.watch = problem, controller, Tally(), watch
        self.held: Bools | None = None  # under one clock, the samples that have ended
        stops, info, batch = stops_of(problem), problem.solver.info, problem.batch
        hint = stiffness_hint(problem.solver)
        self.clocks = Clocks(stops, controller, info.error_order or 1, problem.max_steps, hint, batch)
        self.outputs = Outputs(problem.y0, stops.size)
        self.restarts = sorted(problem.restarts())
        self.failures: list[SolverFailure] = []

    def run(self) -> Path:
        """Step until every clock has reached its end."""
        term, y, carry = self.problem.term.wrap(self.tally), self.problem.y0, None
        if self.problem.batch:
            self.outputs.keep(self._slots(self.clocks.stops.first), y)
            term, y, carry = self._start(term, y)
        while self.problem.batch and self.clocks.running.size:
            y, carry, gone = self._step(term, y, carry)
            if gone.any():
                term, y, carry = self._leave(~gone, term, y, carry)
        return self._path(carry)

    def _start(self, term: Term, y: State) -> tuple[Term, State, Carry]:
        """First steps and the solver's memory; samples whose field is not finite fail at once."""
        clocks = self.clocks
        t0, t1 = self._times(clocks.t, clocks.stops.times[clocks.stops.first + 1])
        with torch.no_grad():  # it measures; and a NaN among it must not reach the gradient of others
            f0 = y if isinstance(self.controller, Given) else term.over(t0, t1).vf(t0, y)
        clocks.start(self.controller.first_steps(y, f0, clocks.order, clocks.span))
        clocks.nfe += self.tally.calls
        lost = np.isnan(clocks.dt)
        if lost.any():
            what = f"the {self.tally.field} is NaN or infinite at the start"
            self._fail(clocks.failure(lost, NonFinite, what, HINT_NAN), finite_samples(f0))
            term, y, _ = self._leave(~lost, term, y, None)
        if not clocks.running.size:
            return term, y, None
        opening = Opening(self._rows(), *self._times(clocks.t[clocks.running], clocks.end[clocks.running]))
        calls = self.tally.calls
        carry = self.problem.solver.init(term, opening.t0, opening.t1, y)
        clocks.nfe[clocks.samples] += self.tally.calls - calls
        if self.watch is not None:
            self.watch.began(opening, y, carry)
        return term, y, carry

    def _step(self, term: Term, y: State, carry: Carry) -> tuple[State, Carry, Bools]:
        """Try a step; the state and memory after it, and which of the running clocks are done."""
        clocks, trial, calls = self.clocks, self.clocks.propose(), self.tally.calls
        t0, t1 = self._times(trial.t, trial.end)
        over = term.over(t0, t1)
        step = self.problem.solver.step(over, t0, t1, y, carry)
        converged = self._converged(step)
        errors = self.controller.errors(y if step.error is None else step.error, y, step.y)
        errors = np.where(converged, errors, np.nan)
        clocks.nfe[clocks.samples] += self.tally.calls - calls if step.inner is None else step.inner.nfe.numpy()
        # a thrown-away NaN would still poison the gradient: then no sample takes this step
        poisoned = not np.isfinite(errors).all() and any(leaf.requires_grad for leaf in leaves(step.y))
        accept = clocks.advance(trial, errors, held=poisoned)
        if self.problem.saveat.dense and accept.any():
            self._draw(over, y, step, trial, accept)
        lost = np.zeros_like(accept)
        for mask, failure in clocks.failures(trial, errors, converged, self.tally.field):
            self._fail(failure, finite_samples(step.y) & (step.inner is None or step.inner.converged))
            lost |= mask
        return self._settle(term, over, (y, carry), step, trial, accept, lost, (t0, t1))

    def _settle(
        self,
        term: Term,
        over: Term,
        before: tuple[State, Carry],
        step: Step,
        trial: Trial,
        accept: Bools,
        lost: Bools,
        times: tuple[Time, Time],
    ) -> tuple[State, Carry, Bools]:
        """Do what was decided: rows take the step, states are kept, memory is begun anew, clocks end."""
        clocks = self.clocks
        takes = self._takes(accept)
        y, carry = taken(takes, step[:2], before)
        landed, slots, renewal = accept & trial.lands & ~lost, None, None
        if landed.any():
            slots = self._slots(np.where(landed, clocks.goal[clocks.running], -1))
            self.outputs.keep(slots, y)
            renewal = self._renewal(landed)
            calls = self.tally.calls
            carry = renewed(self.problem.solver, term, y, carry, renewal)
            rows = clocks.samples if renewal is None or renewal.places is None else clocks.samples[renewal.places]
            clocks.nfe[rows] += self.tally.calls - calls
            clocks.goal[clocks.running] += landed
        gone = lost | (clocks.goal[clocks.running] > clocks.stops.last[clocks.running])
        if self.watch is not None and accept.any():
            move = Move(self._rows(), *times, takes, slots, renewal)
            start, end = (np.broadcast_to(t, clocks.samples.shape) for t in (trial.t, trial.end))
            ended = self.watch.moved(Took(move, over, before[0], step, y, carry, start, end))
            if ended is not None:
                gone = gone | self._ended(ended)
        return y, carry, gone

    def _takes(self, accept: Bools) -> Bools | None:
        """The rows that take the step; under one clock, those that have not ended."""
        if not self.controller.joint:
            return accept
        if self.held is None:
            return None if accept[0] else np.zeros(self.problem.batch, dtype=bool)
        return np.asarray(~self.held & accept[0])

    def _ended(self, ended: Bools) -> Bools:
        if not self.controller.joint:
            return ended
        self.held = ended if self.held is None else self.held | ended
        return np.array([self.held.all()])

    def _rows(self) -> Places | None:
        """The samples of the next step; None for all under one clock."""
        return None if self.controller.joint else self.clocks.running

    def _converged(self, step: Step) -> Bools:
        """For each running clock, whether the inner iterations of its samples ended well, or in the field's NaN."""
        if step.inner is None:
            return np.ones(self.clocks.running.size, dtype=bool)
        converged: Bools = step.inner.converged.numpy()
        if not converged.all():
            converged = converged | ~finite_samples(step.y).numpy()
        return np.array([converged.all()]) if self.controller.joint else converged

    def _fail(self, failure: SolverFailure, good: Tensor) -> None:
        """Raise the failure, or note it where the others may go on; `good` are the samples that are not to blame."""
        guilty = [int(i) for i in (~good).nonzero().flatten()]
        if self.controller.joint and guilty:  # one clock for all, but not all are to blame
            failure = failure.among(guilty)
        if not self.problem.freeze or self.controller.joint:
            raise failure
        self.failures.append(failure)

    def _slots(self, stops: Places) -> Places:
        """Where the states of the running clocks are kept that stand on these stops; -1 for those between stops."""
        marks = self.clocks.stops
        slots = np.where(stops < 0, -1, marks.slots[stops])
        return np.where(slots < 0, -1, slots + marks.stride * self.clocks.samples)

    def _renewal(self, landed: Bools) -> Renewal | None:
        """Where a clock has landed on a jump of the field, the solver's memory is made anew behind it."""
        clocks = self.clocks
        places = (landed & clocks.stops.restarts[clocks.goal[clocks.running]]).nonzero()[0]
        if not len(places):
            return None
        on = clocks.running[places]
        times = self._times(clocks.t[on], clocks.end[on])
        return Renewal(None if len(places) == len(landed) else places, *times)

    def _draw(self, term: Term, y: State, step: Step, trial: Trial, accept: Bools) -> None:
        """Keep the accepted steps as polynomials."""
        places, calls = accept.nonzero()[0], self.tally.calls
        if not self.controller.joint and len(places) < len(accept):
            term, y = term.rows(self._index(places)), some(y, places)
            step = some(step._replace(inner=None), places)
        t0, t1 = self._times(trial.t[places], trial.end[places])
        coefficients = self.problem.solver.dense(term, t0, t1, y, step)
        samples = self.clocks.everyone if self.controller.joint else self.clocks.running[places]
        self.clocks.nfe[samples] += self.tally.calls - calls
        start, end = (np.broadcast_to(t[places], samples.shape) for t in (trial.t, trial.end))
        self.outputs.draw(samples, start, end, coefficients)

    def _leave(self, going: Bools, term: Term, y: State, carry: Carry) -> tuple[Term, State, Carry]:
        """Let clocks leave: the field is called for the others alone."""
        self.clocks.running = self.clocks.running[going]
        if self.controller.joint or not going.any():
            return term, y, carry
        places = going.nonzero()[0]
        return term.rows(self._index(places)), *some((y, carry), places)

    def _times(self, start: Array, end: Array) -> tuple[Time, Time]:
        """Host times as the solver gets them: floats for a joint clock, else float64 `(batch, 1, …)`.

        A step that touches a jump of the field stays on its own side of it.
        """
        first = leaves(self.problem.y0)[0]
        if self.restarts:
            start, end = inside(start, end, self.restarts, torch.finfo(first.dtype).eps)
        if self.controller.joint:
            return float(start[0]), float(end[0])
        return column(start, first), column(end, first)

    def _index(self, places: Places) -> Tensor:
        return torch.as_tensor(places, device=leaves(self.problem.y0)[0].device)

    def _path(self, carry: Carry) -> Path:
        p, clocks = self.problem, self.clocks
        nfe, accepted, rejected = (
            torch.as_tensor(np.broadcast_to(n, (p.batch,)).copy())
            for n in (clocks.nfe, clocks.accepted, clocks.rejected)
        )
        stats = Stats(nfe, accepted, rejected)
        dense = Dense(self.outputs.segments, p.host_ends) if p.saveat.dense else None
        kept = self.outputs.gathered() if dense is None or clocks.stops.size else p.between(dense)
        return Path(p.shaped(kept), carry, stats, dense, tuple(self.failures))
