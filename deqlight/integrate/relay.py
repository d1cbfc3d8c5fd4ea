"""Station: the clock, handed on. A solve whose events change the state is a chain of solves, each sample its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from ..errors import MaxSteps, SolverFailure, StepUnderflow
from ..interpolation import Dense, Segment
from ..problem import Path, Problem
from ..solution import Stats, Tally
from ..states import beside, each, leaves
from ..times import OwnTimes, Places, beyond
from ..types import State, Tensor
from .lookout import Lookout
from .moves import Watch
from .stops import Bools

__all__ = ["Relay"]

ZENO = 1e-9
"""An event that follows itself within this, in units of the whole solve, goes on to do so ever faster."""

HINT_ZENO = "Let a terminal event end the sample before, or give it an effect after which it does not return at once."
HINT_STEPS = "Raise max_steps, or let a terminal event end the sample before."


class Leg(NamedTuple):
    """One solve of the chain."""

    problem: Problem
    samples: Places
    """Which of the whole, `(n,)`."""
    path: Path
    lookout: Lookout


class Starts(NamedTuple):
    """Where samples go on after an event, `(n,)`, in the order of the samples."""

    rows: Places
    """Which of the leg before."""
    event: Places
    t: Tensor
    y: State
    """Behind the event."""


class Relay:
    """Integrates with a lookout, and again from every event that has an effect, each sample from its own time.

    Gradients go through that time as well: a leg begins with a step from the time as a function to the time as a
    number, which has no length.

    Args:
        problem: what is integrated.
        drive: integrates a problem that a watch looks on.
    """

    def __init__(self, problem: Problem, drive: Callable[[Problem, Watch], Path]) -> None:
        self.problem, self.drive, self.tally = problem, drive, Tally()
        self.lists, self.way = list(problem.lists()), problem.way
        self.steps, self.nfe = (np.zeros(problem.batch, dtype=np.int64) for _ in range(2))
        self.failures: list[SolverFailure] = []

    def run(self) -> Path:
        """All legs, put together."""
        legs = [self._leg(self.problem, np.arange(self.problem.batch))]
        while (starts := self._starts(legs[-1])) is not None:
            samples = legs[-1].samples[starts.rows]
            fresh = np.arange(len(self.problem.events))[:, None] == starts.event
            legs.append(self._leg(self._onward(legs[-1].problem, starts, samples), samples, fresh))
        if len(legs) == 1 and not self.failures:
            return legs[0].path
        path = _joined(self.problem, legs)
        stats = replace(path.stats, nfe=path.stats.nfe + torch.as_tensor(self.nfe))
        return replace(path, stats=stats, failures=tuple(self.failures))

    def _leg(self, problem: Problem, samples: Places, fresh: Bools | None = None) -> Leg:
        lookout = Lookout(problem, fresh)
        try:
            path = lookout.finish(self.drive(problem, lookout))
        except SolverFailure as failure:
            raise failure.among([int(samples[i]) for i in failure.samples]) from None
        self.steps[samples] += (path.stats.accepted + path.stats.rejected).numpy()
        self.failures += [failure.among([int(samples[i]) for i in failure.samples]) for failure in path.failures]
        return Leg(problem, samples, path, lookout)

    def _starts(self, leg: Leg) -> Starts | None:
        """The samples that an event with an effect sends on, as far as they have time left."""
        parts = []
        for k, (event, found) in enumerate(zip(leg.problem.events, leg.path.events, strict=True)):
            rows = (leg.lookout.cause == k).nonzero()[0]
            rows = rows[:0] if event.effect is None else self._allowed(leg, k, rows)
            if len(rows):
                index = torch.as_tensor(rows)
                last = (found.offsets[index + 1] - 1).to(found.ts.device)
                t, y = found.ts[last], each(lambda leaf: leaf[last], found.ys)  # noqa: B023  used at once
                parts.append((rows, np.full(len(rows), k), t, event.rows(index).changed(t, y)))
        if not parts:
            return None
        rows, events, ts, ys = zip(*parts, strict=True)
        order = np.argsort(np.concatenate(rows))
        index = torch.as_tensor(order, device=ts[0].device)
        y = each(lambda *leaves: torch.cat(leaves)[index], *ys)
        return Starts(np.concatenate(rows)[order], np.concatenate(events)[order], torch.cat(ts)[index], y)

    def _allowed(self, leg: Leg, event: int, rows: Places) -> Places:
        """Those of the rows that have time and steps left behind an event."""
        samples, t = leg.samples[rows], leg.lookout.until[rows]
        begin, end = (ends[samples] for ends in self.problem.host_ends)
        short = np.abs(t - leg.problem.host_ends[0][rows]) <= ZENO * np.abs(end - begin)
        goes = beyond(end, t, self.way[samples])
        rows, short = rows[goes], short[goes]
        stuck = short & leg.lookout.fresh[event, rows]
        spent = ~stuck & (self.steps[leg.samples[rows]] >= self.problem.max_steps)
        title, most = self.problem.events[event].title, self.problem.max_steps
        self._give_up(leg, rows[stuck], StepUnderflow, f"event '{title}' follows itself ever faster", HINT_ZENO)
        self._give_up(leg, rows[spent], MaxSteps, f"{most} steps from event to event did not reach the end", HINT_STEPS)
        return np.asarray(rows[~stuck & ~spent])

    def _give_up(self, leg: Leg, rows: Places, kind: type[SolverFailure], what: str, hint: str) -> None:
        if not len(rows):
            return
        t, samples = float(leg.lookout.until[rows[0]]), [int(i) for i in leg.samples[rows]]
        failure = kind(what, hint=hint, t=t, samples=samples)
        if not self.problem.freeze:
            raise failure
        self.failures.append(failure)

    def _onward(self, before: Problem, starts: Starts, samples: Places) -> Problem:
        """The problem of the samples that start again, at the times that are left."""
        t = starts.t.detach().cpu().numpy()
        lists = [np.asarray(self.lists[i if len(self.lists) > 1 else 0]) for i in samples]
        left = [
            np.array([t0, *ts[beyond(ts, np.full(1, t0), self.way[i : i + 1])]])
            for t0, ts, i in zip(t, lists, samples, strict=True)
        ]
        times = OwnTimes(np.concatenate(left), np.cumsum([0, *map(len, left)]), ragged=True)
        part = replace(before.rows(starts.rows), ts=times, y0=starts.y)
        return replace(part, y0=self._from(part, starts.t, samples)) if starts.t.requires_grad else part

    def _from(self, part: Problem, t: Tensor, samples: Places) -> State:
        """The states at the start, as functions of when that is."""
        t0, calls = beside(t, leaves(part.y0)[0]), self.tally.calls
        t1, term = t0.detach(), part.term.wrap(self.tally)
        step = part.solver.step(term.over(t0, t1), t0, t1, part.y0, part.solver.init(term, t0, t1, part.y0))
        self.nfe[samples] += self.tally.calls - calls if step.inner is None else step.inner.nfe.numpy()
        return step.y


def _joined(problem: Problem, legs: list[Leg]) -> Path:
    """What all legs leave."""
    nfe, accepted, rejected = (torch.zeros(problem.batch, dtype=torch.int64) for _ in range(3))
    for leg in legs:
        rows, stats = torch.as_tensor(leg.samples), leg.path.stats
        nfe[rows] += stats.nfe
        accepted[rows] += stats.accepted
        rejected[rows] += stats.rejected
    events = tuple(
        first.joined([(leg.path.events[k], leg.samples) for leg in legs[1:]])
        for k, first in enumerate(legs[0].path.events)
    )
    dense = _dense(problem, legs) if problem.saveat.dense else None
    return Path(_states(problem, legs), None, Stats(nfe, accepted, rejected), dense, events=events)


def _states(problem: Problem, legs: list[Leg]) -> State:
    """The kept states, each from the last leg that reached its time."""
    whose, times = problem.marks()
    order = np.argsort(whose, kind="stable")  # by sample, in order of time within each
    place = np.arange(len(whose))
    kept, total = [_flat(legs[0])], len(whose)
    for leg in legs[1:]:
        rows, when = leg.problem.marks()
        begin = leg.problem.host_ends[0]
        own = beyond(when, begin[rows], leg.problem.way[rows]).nonzero()[0]  # not the start
        start = np.full(problem.batch, np.nan)
        start[leg.samples] = begin
        slots = order[beyond(times[order], start[whose[order]], problem.way[whose[order]])]
        place[slots] = total + own
        kept.append(_flat(leg))
        total += len(when)
    index = torch.as_tensor(place, device=leaves(kept[0])[0].device)
    return problem.shaped(each(lambda *leaves: torch.cat(leaves)[index], *kept))


def _flat(leg: Leg) -> State:
    """Its kept states in the order of their slots."""
    return leg.path.ys if leg.problem.ragged else each(lambda leaf: leaf.flatten(0, 1), leg.path.ys)


def _dense(problem: Problem, legs: list[Leg]) -> Dense:
    """The steps of all legs; behind an event those of the next leg are found first."""
    until = np.full(problem.batch, np.nan)
    segments: list[Segment] = []
    for leg in legs:
        if leg.path.dense is not None:
            until[leg.samples] = leg.path.dense.until
            segments += [replace(part, samples=leg.samples[part.samples]) for part in leg.path.dense.segments]
    return Dense(segments, problem.host_ends, until)
