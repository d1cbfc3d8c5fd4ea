"""Station: the way back, its legs: from each state that was kept to the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np

from ..controllers import FixedSteps
from ..problem import Path, Problem
from ..states import each, finite_samples
from ..times import Array, OwnTimes, Places, Times

__all__ = ["Leg", "legs", "reached"]


class Leg(NamedTuple):
    """One solve back in time."""

    samples: Places
    """Which of the batch, in order."""
    begins: Places
    """The slots of the states that it begins with."""
    ends: Places | None
    """The slots of the states where it ends; None for those at the start of the solve, if they were not kept."""
    ts: Times


def reached(problem: Problem, path: Path) -> Places:
    """The slots of the states that were reached; of samples that failed, not all are."""
    slots = np.arange(problem.slots)
    if not path.failures:
        return slots
    flat = each(lambda leaf: leaf.reshape(problem.slots, leaf.numel() // max(problem.slots, 1)), path.ys)
    return cast(Places, slots[finite_samples(flat).numpy()])


def legs(problem: Problem, slots: Places) -> Iterator[Leg]:
    """All legs, the latest first, between the states of these slots, which the solve has reached."""
    whose, times = problem.marks()
    order = slots[np.argsort(whose[slots], kind="stable")]  # by sample, in order of time within each
    counts = np.bincount(whose[order], minlength=problem.batch)
    behind = np.cumsum(counts)
    if problem.saveat.final:
        if len(order):
            yield Leg(whose[order], order, None, _whole(problem, whose[order]))
        return
    for back in range(1, max(counts, default=0)):
        samples = (counts > back).nonzero()[0]
        begins, ends = (order[behind[samples] - back - i] for i in (0, 1))
        yield Leg(samples, begins, ends, _pairs(problem, times[begins], times[ends]))


def _whole(problem: Problem, samples: Places) -> Times:
    """From the end to the start; fixed steps have a grid between each two times that were asked for."""
    ts = problem.ts.rows(samples) if isinstance(problem.ts, OwnTimes) else problem.ts
    if not isinstance(problem.controller, FixedSteps):
        start, end = (ends[samples] for ends in problem.host_ends)
        return _pairs(problem, end, start)
    if not isinstance(ts, OwnTimes):
        return tuple(reversed(ts))
    lists = [ts.of(i)[::-1] for i in range(ts.batch)]
    return OwnTimes(np.concatenate(lists), ts.offsets, ts.ragged)


def _pairs(problem: Problem, begin: Array, end: Array) -> Times:
    """Two times for each sample, or for all."""
    alike = (begin == begin[0]).all() and (end == end[0]).all()
    if alike and not isinstance(problem.ts, OwnTimes):
        return float(begin[0]), float(end[0])
    values = np.stack([begin, end], 1).ravel()
    return OwnTimes(values, cast(Places, 2 * np.arange(len(begin) + 1)), ragged=False)
