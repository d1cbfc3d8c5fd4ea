"""Station: the clock, its marks. Where clocks must stop, and where the states of those stops are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .times import Array, OwnTimes, Places

__all__ = ["Stops", "own_stops", "shared_stops"]

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


def shared_stops(
    outputs: Sequence[float],
    kept: Sequence[bool],
    extra: Iterable[float],
    jumps: Iterable[float],
    batch: int,
    clocks: int,
) -> Stops:
    """Stops that all clocks share.

    Args:
        outputs: the output times, first and last included.
        kept: which of them are kept, in slots `(kept, batch)`.
        extra: further times to stop at.
        jumps: times of `extra` where the field jumps.
        batch: number of samples.
        clocks: number of clocks: as many, or one for all.
    """
    times, slots, restarts = _merged(outputs, kept, extra, set(jumps))
    slots = np.where(slots < 0, -1, slots * batch)
    ends = np.zeros(clocks, dtype=np.int64), np.full(clocks, len(times) - 1)
    return Stops(times, slots, restarts, *ends, 1, sum(kept) * batch)


def own_stops(
    ts: OwnTimes,
    outputs: Sequence[Sequence[float]],
    kept: Sequence[Sequence[bool]],
    extra: Iterable[float],
    jumps: set[float],
) -> Stops:
    """Stops of each sample's own; slots `(kept, batch)`, or for ragged times one sample after the other."""
    lists, offsets = [], np.cumsum([0, *(sum(keep) for keep in kept)])
    for sample, (own, keep) in enumerate(zip(outputs, kept, strict=True)):
        low, high = min(own), max(own)
        times, slots, restarts = _merged(own, keep, [t for t in extra if low < t < high], jumps)
        where = slots + offsets[sample] if ts.ragged else slots * ts.batch + sample
        lists.append((times, np.where(slots < 0, -1, where), restarts))
    counts = np.array([len(times) for times, _, _ in lists], dtype=np.int64)
    ends = np.cumsum(counts)
    times, slots, restarts = (np.concatenate(column) for column in zip(*lists, strict=True))
    return Stops(times, slots, restarts, ends - counts, ends - 1, 0, int(offsets[-1]))


def _merged(
    outputs: Sequence[float], kept: Sequence[bool], extra: Iterable[float], jumps: set[float]
) -> tuple[Array, Places, Bools]:
    """All times in their direction, the number of the kept output that each is (or -1), and whether it is a jump."""
    number = np.cumsum(kept) - 1
    place = {t: int(n) if keep else -1 for t, keep, n in zip(outputs, kept, number, strict=True)}
    times = sorted({*outputs, *extra}, reverse=outputs[-1] < outputs[0])
    slots = np.array([place.get(t, -1) for t in times], dtype=np.int64)
    return np.array(times), slots, np.array([t in jumps for t in times])
