"""Station: the clock. The only loops over time in the repository: one over fixed grids, one with measured steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from .clocks import HINT_INNER, HINT_NAN, Clocks, Trial, stiffness_hint
from .controllers import AdaptiveSteps
from .controllers._given import Given
from .errors import InputError, MaxSteps, NoConvergence, NonFinite, SolverFailure
from .interpolation import Dense, Segment, with_rows
from .outputs import Outputs
from .problem import Path, Problem
from .solution import Stats, Tally
from .solvers import Step
from .states import as_float, each, finite_samples, is_finite, leaves, tree_map, tree_tensors
from .stops import Bools
from .terms import Term
from .terms.replay import frozen_statistics
from .times import Array, Places, column
from .types import Carry, State, Tensor, Time

__all__ = ["integrate", "walk"]

S = TypeVar("S")


def integrate(problem: Problem) -> Path:
    """Integrate the problem from the first of its times to the last.

    Raises:
        MaxSteps: if that takes more than `max_steps` steps.
        NoConvergence: if the inner iteration of a step does not end.
        NonFinite: if the state or the field becomes NaN or infinite.
        StepUnderflow: if the tolerance asks for steps that time cannot resolve.
    """
    if isinstance(problem.controller, AdaptiveSteps):
        return _Measured(problem, problem.controller).run()
    return _Measured(problem, Given()).run() if problem.own_clocks else _Fixed(problem).run()


def walk(times: Sequence[Time], visit: Callable[[int, Time, Time, S], S], state: S, backward: bool = False) -> S:
    """The loop over a fixed grid: `state = visit(n, t_n, t_n+1, state)` for every step, in either direction."""
    steps = range(len(times) - 1)
    for n in reversed(steps) if backward else steps:
        state = visit(n, times[n], times[n + 1], state)
    return state


class _Fixed:
    """The loop over a grid that is known beforehand."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.tally = problem, Tally()
        self.term = problem.term.wrap(self.tally)
        self.times, marks = problem.grid()
        self.keep, self.restarts = set(marks), problem.restarts()
        self.kept = [problem.y0] if 0 in self.keep else []
        self.segments: list[Segment] = []
        self.inner = torch.zeros(problem.batch, dtype=torch.int64)  # evaluations that samples made on their own
        steps = len(self.times) - 1
        if steps > problem.max_steps:
            hint = f"Raise max_steps (now {problem.max_steps}) to at least {steps}, or take longer steps."
            raise MaxSteps(f"the grid has {steps} steps", hint=hint)

    def run(self) -> Path:
        """Step from time to time, then look whether all numbers are finite."""
        y1, carry = walk(self.times, self._visit, self._start())
        if not torch.compiler.is_compiling() and not is_finite(y1):
            raise self._first_failure()
        batch = self.problem.batch
        stats = Stats(
            self.inner + self.tally.calls, torch.full((batch,), len(self.times) - 1), torch.zeros_like(self.inner)
        )
        ys = each(lambda *ys: torch.stack(ys), *self.kept) if len(self.kept) > 1 else each(lambda y: y[None], y1)
        dense = Dense(self.segments, self.problem.host_ends) if self.problem.saveat.dense else None
        return Path(ys, carry, stats, dense)

    def _start(self) -> tuple[State, Carry]:
        p = self.problem
        return p.y0, p.solver.init(self.term, self.times[0], self.times[-1], p.y0)

    def _visit(self, n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
        y0, carry = state
        inside0, inside1 = t0, t1
        if self.restarts:  # no step sees both sides of a jump
            inside0, inside1 = self._inside(t0, t1)
            if n and inside0 is not t0:
                carry = self.problem.solver.init(self.term, inside0, self.times[-1], y0)
        term, calls = self.term.over(inside0, inside1), self.tally.calls
        step = self.problem.solver.step(term, inside0, inside1, y0, carry)
        self._count(step, calls, n, t0, t1)
        if n + 1 in self.keep:
            self.kept.append(step.y)
        if self.problem.saveat.dense:
            rows = np.arange(self.problem.batch)
            start, end = (np.broadcast_to(as_array(t), rows.shape) for t in (t0, t1))
            coefficients = self.problem.solver.dense(term, inside0, inside1, y0, step)
            self.segments.append(Segment(rows, start, end, tuple(map(with_rows, coefficients))))
        return step.y, step.carry

    def _inside(self, t0: Time, t1: Time) -> tuple[Time, Time]:
        start, end = as_float(t0), as_float(t1)
        return (
            math.nextafter(start, end) if start in self.restarts else t0,
            math.nextafter(end, start) if end in self.restarts else t1,
        )

    def _count(self, step: Step, calls: int, n: int, t0: Time, t1: Time) -> None:
        """Samples that iterate on their own cost what they say, not the calls; none may go on unconverged."""
        if step.inner is None:
            return
        self.inner += step.inner.nfe
        self.tally.calls = calls
        lost = ~step.inner.converged & finite_samples(step.y)
        if bool(lost.any()):
            where = self._where(n, t0, t1, lost)
            raise NoConvergence("the inner iteration of a step did not converge", hint=HINT_INNER, **where)

    def _where(self, n: int, t0: Time, t1: Time, lost: Tensor) -> dict[str, Any]:
        samples = [int(i) for i in lost.nonzero().flatten()]
        first = samples[0]
        t, end = (float(np.broadcast_to(as_array(t), (self.problem.batch,))[first]) for t in (t0, t1))
        return {"t": t, "dt": end - t, "step": n, "samples": samples, "nfe": int(self.inner[first]) + self.tally.calls}

    @torch.no_grad()
    def _first_failure(self) -> SolverFailure:
        """Go through a failed solve again and find where it failed first."""
        again = _Fixed(self.problem)
        again.keep = set()
        found: list[SolverFailure] = []

        def visit(n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
            if found:
                return state
            y, carry = again._visit(n, t0, t1, state)
            lost = ~finite_samples(y)
            if bool(lost.any()):
                where = again._where(n, t0, t1, lost)
                found.append(
                    NonFinite(f"the {again.tally.field} or the state became NaN or infinite", hint=HINT_NAN, **where)
                )
            return y, carry

        with frozen_statistics(self.problem.term):
            walk(self.times, visit, again._start())
        hint = "Evaluated once more, it stayed finite: the field draws random numbers or changes between calls."
        return found[0] if found else NonFinite("the state became NaN or infinite", hint=hint)


class _Measured:
    """The loop with measured steps. Rejected samples try again with a smaller step while the others go on.

    Samples that have finished leave the field's calls, and so do those that failed, where the others may go on.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps) -> None:
        self.problem, self.controller, self.tally = problem, controller, Tally()
        stops, info, batch = problem.stops(), problem.solver.info, problem.batch
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
        carry = self.problem.solver.init(term, t0, self._times(clocks.t, clocks.end)[1], y)
        f0 = y if isinstance(self.controller, Given) else term.over(t0, t1).vf(t0, y)
        clocks.start(self.controller.first_steps(y, f0, clocks.order, clocks.span))
        clocks.nfe += self.tally.calls
        lost = np.isnan(clocks.dt)
        if lost.any():
            self._fail(
                clocks.failure(lost, NonFinite, f"the {self.tally.field} is NaN or infinite at the start", HINT_NAN), y
            )
            return self._leave(~lost, term, y, carry)
        return term, y, carry

    def _step(self, term: Term, y: State, carry: Carry) -> tuple[State, Carry, Bools]:
        """Try a step; the state and memory after it, and which of the running clocks are done."""
        clocks, trial, calls = self.clocks, self.clocks.propose(), self.tally.calls
        t0, t1 = self._times(trial.t, trial.end)
        over = term.over(t0, t1)
        step = self.problem.solver.step(over, t0, t1, y, carry)
        converged = self._converged(step)
        errors = np.where(converged, self.controller.errors(y if step.error is None else step.error, y, step.y), np.nan)
        clocks.nfe[clocks.samples] += self.tally.calls - calls if step.inner is None else step.inner.nfe.numpy()
        # a thrown-away NaN would still poison the gradient: then no sample takes this step
        poisoned = bool(np.isnan(errors).any()) and any(leaf.requires_grad for leaf in leaves(step.y))
        accept = clocks.advance(trial, errors, held=poisoned)
        if self.problem.saveat.dense and accept.any():
            self._draw(over, y, step, trial, accept)
        lost = np.zeros_like(accept)
        for mask, failure in clocks.failures(trial, errors, converged, self.tally.field):
            self._fail(failure, step.y)
            lost |= mask
        y, carry = self._taken(accept, step[:2], (y, carry))
        landed = accept & trial.lands & ~lost
        self._output(np.where(landed, clocks.goal[clocks.running], -1), y)
        carry = self._begin_anew(landed, term, y, carry)
        clocks.goal[clocks.running] += landed
        return y, carry, lost | (clocks.goal[clocks.running] > clocks.stops.last[clocks.running])

    def _converged(self, step: Step) -> Bools:
        """For each running clock, whether the inner iterations of its samples ended well."""
        if step.inner is None:
            return np.ones(self.clocks.running.size, dtype=bool)
        converged: Bools = step.inner.converged.numpy()
        return np.array([converged.all()]) if self.controller.joint else converged

    def _fail(self, failure: SolverFailure, y: State) -> None:
        """Raise the failure, or note it where the others may go on."""
        if self.controller.joint and isinstance(failure, NonFinite):  # one clock for all, but not all are to blame
            lost = [int(i) for i in (~finite_samples(y)).nonzero().flatten()]
            failure = failure.among(lost) if lost else failure
        if not self.problem.freeze or self.controller.joint:
            raise failure
        self.failures.append(failure)

    def _taken(self, accept: Bools, new: tuple[State, Carry], old: tuple[State, Carry]) -> tuple[State, Carry]:
        if accept.all():
            return new
        if not accept.any():
            return old
        mask = self._index(accept)
        taken: tuple[State, Carry] = tree_map(lambda a, b: torch.where(_rows_like(mask, a), a, b), new, old)
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
        places, calls = jumped.nonzero()[0], self.tally.calls
        term, y = (term, y) if self.controller.joint else (term.rows(self._index(places)), self._some(y, places))
        on = clocks.running[places]
        t0, t1 = self._times(clocks.t[on], clocks.end[on])
        new = self.problem.solver.init(term, t0, t1, y)
        clocks.nfe[clocks.everyone if self.controller.joint else on] += self.tally.calls - calls
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
            least = torch.finfo(first.dtype).eps
            gap = np.minimum(least * np.maximum(np.abs(start), np.abs(end)), np.abs(end - start) / 4) * np.sign(
                end - start
            )
            start, end = (np.where(np.isin(t, self.restarts), t + way * gap, t) for t, way in ((start, 1), (end, -1)))
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


def as_array(t: Time) -> Array:
    """A time, or the times of all samples, on the host."""
    return np.asarray(t.detach().cpu() if isinstance(t, Tensor) else t, dtype=np.float64).ravel()


def _rows_like(mask: Tensor, leaf: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (leaf.dim() - 1))
