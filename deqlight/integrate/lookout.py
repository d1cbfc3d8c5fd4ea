"""Station: the clock, its lookout. Finds the events in the steps of a solve, and says which samples end there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch

from ..events import Event, Found, gathered, no_crossings
from ..interpolation import Dense
from ..problem import Path, Problem
from ..solution import Tally
from ..states import each, leaves, tree_tensors
from ..times import Array, Places, beyond, column
from ..types import Carry, State, Tensor, Time
from .arcs import Arc
from .moves import Opening, Took, Watch, some
from .signs import Changes, changes, with_vertex_of
from .stops import Bools

__all__ = ["Lookout"]

POINTS = (0.25, 0.5, 0.75, 1.0)
"""Where the conditions are evaluated in a step, in units of it; what happens twice between two of them may be missed,
unless it bends like a parabola."""

NEAREST = (2.0**-11, 2.0**-10)
"""The same where a step begins on the zero of a condition: a parabola through it and these says where it goes."""

TINY = 2.0**-52
"""What stands for a value that is zero but for its sign."""


class Hits(NamedTuple):
    """What an event found in a step: changes of sign, and the roots in them."""

    event: int
    between: Changes
    x: Array


class Ends(NamedTuple):
    """Where rows end in a step, both `(rows,)`."""

    x: Array
    """Infinite for those that do not."""
    event: Places
    """By which event; -1 for none."""


class Lookout(Watch):
    """Looks for the events of a problem in its steps.

    Args:
        problem: what is integrated.
        fresh: which events begin on their zero for which samples, `(events, batch)`; None for none.
    """

    def __init__(self, problem: Problem, fresh: Bools | None = None) -> None:
        self.problem, self.events, self.tally = problem, problem.events, Tally()
        self.term = problem.term.wrap(self.tally)
        shape = (len(self.events), problem.batch)
        self.fresh = np.zeros(shape, dtype=bool) if fresh is None else fresh
        self.values = np.zeros(shape)  # of the conditions at the last step's end; 0 where their side is not known
        self.until = np.full(problem.batch, np.nan)  # where the samples have ended
        self.cause = np.full(problem.batch, -1)  # by which event
        self.found: list[list[Found]] = [[] for _ in self.events]
        self.nfe, self.steps = (np.zeros(problem.batch, dtype=np.int64) for _ in range(2))

    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """The conditions at the start."""
        rows = self._samples(opening.rows)
        start = column(self.problem.host_ends[0][rows], leaves(y)[0])
        arc = Arc(rows, start.flatten(), start.flatten() + 1.0, (y, each(torch.zeros_like, y))).detached()
        for k, event in enumerate(self.events):
            with torch.no_grad():
                values = arc.values(event, np.zeros((1, len(rows))))[0]
            self.values[k, rows] = np.where(self.fresh[k, rows], 0.0, values)

    def moved(self, took: Took) -> Bools | None:
        """Find what happened in the step; the rows that end there."""
        accept = took.move.accept
        rows = self._samples(took.move.rows)
        places = np.arange(len(rows)) if accept is None else accept.nonzero()[0]
        if not len(places):
            return None
        self.steps[rows[places]] += 1
        with torch.no_grad():
            arc = self._drawn(took, places).detached()
            hits = [self._hits(k, event, arc) for k, event in enumerate(self.events)]
        if not any(len(hit.x) for hit in hits):
            return None
        ends = self._first(hits, len(places))
        for hit in hits:
            self._note(took, places, arc, self._counted(hit, ends))
        ended = np.isfinite(ends.x)
        if not ended.any():
            return None
        t, _ = arc.at(arc.tensor(np.where(ended, ends.x, 0.0)))
        self.until[arc.samples] = np.where(ended, t.cpu().numpy(), np.nan)
        self.cause[arc.samples] = ends.event
        stopped = np.zeros(len(rows), dtype=bool)
        stopped[places] = ended
        return stopped

    def finish(self, path: Path) -> Path:
        """The path with what was found: events, NaN behind the ends of samples, costs."""
        p, events = self.problem, [no_crossings(event, self.problem.y0) for event in self.events]
        found = [gathered([none.found, *parts], none) for none, parts in zip(events, self.found, strict=True)]
        ys, (samples, times) = path.ys, p.marks()
        late = beyond(times, self.until[samples], p.way[samples])
        if late.any():
            blank = cast(Tensor, p.shaped(torch.as_tensor(late)))
            ys = each(partial(_blank, blank), ys)
        nfe, steps = torch.as_tensor(self.nfe), torch.as_tensor(self.steps)
        stats = replace(path.stats, nfe=path.stats.nfe + nfe, accepted=steps)
        dense = None if path.dense is None else Dense(path.dense.segments, path.dense.ends, self._final())
        return replace(path, ys=ys, stats=stats, dense=dense, events=tuple(found))

    def _final(self) -> Array:
        """Where terminal events have ended samples, NaN for the others."""
        terminal = np.array([*(event.terminal for event in self.events), False])  # the last for no event, −1
        return np.where(terminal[self.cause], self.until, np.nan)

    def _hits(self, k: int, event: Event, arc: Arc) -> Hits:
        """All zeros of a condition in the step, in the wanted direction."""
        x, values = self._looked(event, arc, self.values[k, arc.samples])
        self.values[k, arc.samples] = values[-1]
        between = changes(*self._closer(event, arc, x, values))
        if event.direction:
            between = between.where((between.before < 0) == (event.direction > 0))
        if not len(between.row):
            return Hits(k, between, np.zeros(0))
        return Hits(k, between, arc.rows(between.row).root(event, between))

    @staticmethod
    def _looked(event: Event, arc: Arc, start: Array) -> tuple[Array, Array]:
        """Points of the step and the values there, the start's among them; 0 is a start whose side is not known."""
        known = start != 0
        points = POINTS if known.all() else (*NEAREST, *POINTS)
        x = np.array(points)[:, None].repeat(len(start), 1)
        values = arc.values(event, x)
        values = np.where(np.isnan(values).any(0), start, values)  # a state that is lost: the solve will say so
        if not known.all():
            towards = 4 * values[0] - values[1]
            x[:2], values[:2] = np.where(known, 0.0, x[:2]), np.where(known, start, values[:2])
            start = np.where(known, start, TINY * towards)
        return np.concatenate([np.zeros_like(x[:1]), x]), np.concatenate([start[None], values])

    @staticmethod
    def _closer(event: Event, arc: Arc, x: Array, values: Array) -> tuple[Array, Array]:
        """Points and values, with one more for each row where two zeros may hide between them."""
        rows, vertex = with_vertex_of(x, values)
        if not len(rows):
            return x, values
        x, values = (np.concatenate([part, part[-1:]]) for part in (x, values))
        x[-1, rows] = vertex
        values[-1, rows] = arc.rows(rows).values(event, vertex[None])[0]
        order = np.argsort(x, axis=0, kind="stable")
        return np.take_along_axis(x, order, 0), np.take_along_axis(values, order, 0)

    def _first(self, hits: list[Hits], rows: int) -> Ends:
        """Where each row ends, and by which event: the first of those that end it."""
        ends = Ends(np.full(rows, np.inf), np.full(rows, -1))
        for hit in hits:
            if self.events[hit.event].halts:
                x = np.full(rows, np.inf)
                np.minimum.at(x, hit.between.row, hit.x)
                ends = Ends(np.minimum(x, ends.x), np.where(x < ends.x, hit.event, ends.event))
        return ends

    def _counted(self, hit: Hits, ends: Ends) -> Hits:
        """What happened up to the end of each row; and of what would end it, that alone which did."""
        row = hit.between.row
        counted = hit.x <= ends.x[row]
        if self.events[hit.event].halts:
            counted &= ends.event[row] == hit.event
        return Hits(hit.event, hit.between.where(counted), hit.x[counted])

    def _note(self, took: Took, places: Places, arc: Arc, hit: Hits) -> None:
        """Write down the times and states of some crossings, as functions of all they depend on."""
        if not len(hit.x):
            return
        event, row = self.events[hit.event], hit.between.row
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tree_tensors((took.y0, took.step.y))):
            own = self._drawn(took, places[row])
        else:
            own = arc.rows(row)
        x = own.tensor(hit.x)
        x = own.follow(event, x, hit.between) if torch.is_grad_enabled() else x
        self.found[hit.event].append((own.samples, *own.at(x)))

    def _drawn(self, took: Took, places: Places) -> Arc:
        """Some rows of a step as an arc; counts the evaluations that takes."""
        move, rows, calls = took.move, self._samples(took.move.rows), self.tally.calls
        samples, together = rows[places], move.rows is None  # what shares a clock may mix samples
        chosen = None if np.array_equal(places, np.arange(len(rows))) else places
        term, y, step, t0, t1 = self.term, took.y0, took.step._replace(inner=None), move.t0, move.t1
        if not together:
            y, step, t0, t1 = some((y, step, t0, t1), chosen)
            everyone = np.array_equal(samples, np.arange(self.problem.batch))
            term = term if everyone else term.rows(torch.as_tensor(samples, device=leaves(y)[0].device))
        coefficients = self.problem.solver.dense(term.over(t0, t1), t0, t1, y, step)
        if together:
            coefficients = some(coefficients, chosen)
        np.add.at(self.nfe, rows if together else samples, self.tally.calls - calls)
        start, end = (self._times(t, host, places) for t, host in ((move.t0, took.start), (move.t1, took.end)))
        return Arc(samples, start, end, coefficients)

    def _times(self, t: Time, host: Array, places: Places) -> Tensor:
        """The times of some rows: those on the host, with the gradient of those that the solver got."""
        times = torch.as_tensor(host[places], dtype=torch.float64, device=leaves(self.problem.y0)[0].device)
        if isinstance(t, Tensor) and t.requires_grad:
            return times + (t - t.detach()).double()
        return times

    def _samples(self, rows: Places | None) -> Places:
        return np.arange(self.problem.batch) if rows is None else rows


def _blank(late: Tensor, leaf: Tensor) -> Tensor:
    """The kept states without those that come too late."""
    return torch.where(late.to(leaf.device).reshape(*late.shape, *[1] * (leaf.dim() - late.dim())), torch.nan, leaf)
