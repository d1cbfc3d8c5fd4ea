"""Station: the clock, with steps by the measured error: one clock for each sample, or one for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..controllers import AdaptiveSteps
from ..errors import InputError, NonFinite, SolverFailure
from ..interpolation import Dense
from ..problem import Path, Problem
from ..solution import Stats, Tally
from ..solvers import Step
from ..states import beside, finite_samples, leaves, tree_map, tree_tensors
from ..terms import Term
from ..times import Array, Places, column
from ..types import Carry, State, Tensor, Time
from ._given import Given
from .clocks import HINT_NAN, Clocks, Trial, stiffness_hint
from .outputs import Outputs
from .stops import Bools, inside, stops_of

__all__ = ["Measured"]


class Measured:
    """The loop with measured steps. Rejected samples try again with a smaller step while the others go on.

    Samples that have finished leave the field's calls, and so do those that failed, where the others may go on.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps) -> None:
        self.problem, self.controller, self.tally = problem, controller, Tally()
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
            self._output(self.clocks.stops.first, y)
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
        return term, y, self._memory(term, y, clocks.running)

    def _memory(self, term: Term, y: State, on: Places) -> Carry:
        """The solver's memory for clocks that begin where they stand."""
        if not len(on):
            return None
        clocks, calls = self.clocks, self.tally.calls
        carry = self.problem.solver.init(term, *self._times(clocks.t[on], clocks.end[on]), y)
        clocks.nfe[clocks.everyone if self.controller.joint else on] += self.tally.calls - calls
        return carry

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
        y, carry = self._taken(accept, step[:2], (y, carry))
        landed = accept & trial.lands & ~lost
        if landed.any():
            self._output(np.where(landed, clocks.goal[clocks.running], -1), y)
            carry = self._begin_anew(landed, term, y, carry)
            clocks.goal[clocks.running] += landed
        return y, carry, lost | (clocks.goal[clocks.running] > clocks.stops.last[clocks.running])

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

    def _taken(self, accept: Bools, new: tuple[State, Carry], old: tuple[State, Carry]) -> tuple[State, Carry]:
        if accept.all():
            return new
        if not accept.any():
            return old
        mask = self._index(accept)
        taken: tuple[State, Carry] = tree_map(lambda a, b: torch.where(beside(mask, a), a, b), new, old)
        return taken

    def _output(self, stops: Places, y: State) -> None:
        """Keep the states of the running clocks that stand on these stops; -1 for those between stops."""
        marks = self.clocks.stops
        slots = np.where(stops < 0, -1, marks.slots[stops])
        slots = np.where(slots < 0, -1, slots + marks.stride * self.clocks.samples)
        self.outputs.keep(slots, y)

    def _begin_anew(self, landed: Bools, term: Term, y: State, carry: Carry) -> Carry:
        """Where a clock has landed on a jump of the field, the solver's memory is made anew behind it."""
        clocks = self.clocks
        jumped = landed & clocks.stops.restarts[clocks.goal[clocks.running]]
        if not jumped.any() or not tree_tensors(carry):
            return carry
        places = jumped.nonzero()[0]
        if not self.controller.joint:
            term, y = term.rows(self._index(places)), self._some(y, places)
        new = self._memory(term, y, clocks.running[places])
        if self.controller.joint or len(places) == len(jumped):
            return new
        if len(tree_tensors(new)) != len(tree_tensors(carry)):
            raise InputError(
                f'{self.problem.solver!r} cannot begin anew behind a jump for some samples alone; use norm="joint"'
            )
        index = self._index(places)
        return tree_map(lambda a, b: a.index_copy(0, index, b), carry, new)

    def _draw(self, term: Term, y: State, step: Step, trial: Trial, accept: Bools) -> None:
        """Keep the accepted steps as polynomials."""
        places, calls = accept.nonzero()[0], self.tally.calls
        if not self.controller.joint and len(places) < len(accept):
            index = self._index(places)
            term, y = term.rows(index), self._some(y, places)
            step = self._some(step._replace(inner=None), places)
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
        return term.rows(self._index(places)), *self._some((y, carry), places)

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

    def _index(self, mask_or_places: Bools | Places) -> Tensor:
        return torch.as_tensor(mask_or_places, device=leaves(self.problem.y0)[0].device)

    def _some(self, tree: Any, places: Places) -> Any:
        """The rows of a state, a step or a memory that stand in these places."""
        index = self._index(places)
        return tree_map(lambda leaf: leaf[index], tree)

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
