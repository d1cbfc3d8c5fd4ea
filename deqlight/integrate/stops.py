"""Station: the clock, its marks. Where clocks must stop, and where the states of those stops are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..controllers import AdaptiveSteps, FixedSteps
from ..problem import Problem
from ..states import as_float
from ..times import Array, OwnTimes, Places

__all__ = ["Bools", "Stops", "inside", "stops_of"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Stops:
    """The stops of all clocks, one list after the other; clocks that share their times share one list.

    Attributes:
        times: when, `(stops,)`.
        slots: where the state is kept, `(stops,)`, for the first sample that stops there; -1 where it is not kept.
        restarts: whether the field jumps there, `(stops,)`.
        first: the stop where each clock begins, `(clocks,)`.
        last: the stop where each clock ends, `(clocks,)`.
        stride: how far the slot moves from one sample to the next.
        size: number of slots.
    """

    times: Array
    slots: Places
    restarts: Bools
    first: Places
    last: Places
    stride: int
    size: int

    @property
    def sign(self) -> Array:
        """The direction of each clock's time, 1 or −1: `(clocks,)`."""
        return np.sign(self.times[self.last] - self.times[self.first])


ASIDE = 4
"""How far from a jump, in units of rounding, a step ends: solvers find the end again as t₀ + c (t₁ − t₀)."""


def inside(start: Array, end: Array, jumps: Sequence[float], eps: float) -> tuple[Array, Array]:
    """The ends of steps, those on a jump of the field moved to the step's own side by some units of `eps`."""
    way = end - start
    gap = np.sign(way) * np.minimum(ASIDE * eps * np.maximum(np.abs(start), np.abs(end)), np.abs(way) / 4)
    return np.where(np.isin(start, jumps), start + gap, start), np.where(np.isin(end, jumps), end - gap, end)


def stops_of(problem: Problem) -> Stops:
    """Where the clocks of a problem stop."""
    lists, controller, restarts = (
        [_marked(problem, ts) for ts in problem.lists()],
        problem.controller,
        problem.restarts(),
    )
    extra = {*problem.jumps(), *(controller.step_ts if isinstance(controller, AdaptiveSteps) else ())}
    if isinstance(problem.ts, OwnTimes):
        return _own(problem.ts, lists, extra, restarts)
    ((outputs, kept),) = lists
    times, slots, jumps = _merged(outputs, kept, extra, restarts)
    slots = np.where(slots < 0, -1, slots * problem.batch)  # slots are (kept, batch)
    clocks = problem.batch if problem.own_clocks else 1
    ends = np.zeros(clocks, dtype=np.int64), np.full(clocks, len(times) - 1)
    return Stops(times, slots, jumps, *ends, 1, sum(kept) * problem.batch)


def _own(
    ts: OwnTimes,
    lists: Sequence[tuple[Sequence[float], Sequence[bool]]],
    extra: Iterable[float],
    restarts: set[float],
) -> Stops:
    """Stops of each sample's own; slots are (kept, batch), or for ragged times one sample after the other."""
    found, offsets = [], np.cumsum([0, *(sum(kept) for _, kept in lists)])
    for sample, (outputs, kept) in enumerate(lists):
        times, slots, jumps = _merged(outputs, kept, extra, restarts)
        where = slots + offsets[sample] if ts.ragged else slots * ts.batch + sample
        found.append((times, np.where(slots < 0, -1, where), jumps))
    counts = np.array([len(times) for times, _, _ in found], dtype=np.int64)
    ends = np.cumsum(counts)
    times, slots, jumps = (np.concatenate(column) for column in zip(*found, strict=True))
    return Stops(times, slots, jumps, ends - counts, ends - 1, 0, int(offsets[-1]))


def _marked(problem: Problem, ts: Sequence[float]) -> tuple[Sequence[float], Sequence[bool]]:
    """Where to stop for the output, and whether the state there is kept."""
    times, marks = list(ts), set(range(len(ts)))
    if isinstance(problem.controller, FixedSteps):
        grid, places = problem.controller.grid(ts)
        times, marks = [as_float(t) for t in grid], set(places)
    elif problem.saveat.dense:
        times, marks = [ts[0], ts[-1]], set()
    if problem.saveat.final:
        marks = {len(times) - 1}
    return times, [i in marks for i in range(len(times))]


def _merged(
    outputs: Sequence[float], kept: Sequence[bool], extra: Iterable[float], jumps: set[float]
) -> tuple[Array, Places, Bools]:
    """All times in their direction, the number of the kept output that each is (or -1), and whether it is a jump."""
    low, high, number = min(outputs), max(outputs), np.cumsum(kept) - 1
    place = {t: int(n) if keep else -1 for t, keep, n in zip(outputs, kept, number, strict=True)}
    times = sorted({*outputs, *(t for t in extra if low < t < high)}, reverse=outputs[-1] < outputs[0])
    slots = np.array([place.get(t, -1) for t in times], dtype=np.int64)
    return np.array(times), slots, np.array([t in jumps for t in times])
