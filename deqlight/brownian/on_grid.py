"""Station 0, the noise on a fixed grid: a path that has been drawn, indexed by interval."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ..errors import InputError
from ..states import as_float, each, leaves
from ..types import State, Tensor, Time
from .base import Increment, Path
from .levy import joined_areas, joined_integrals

__all__ = ["OnGrid"]

NEAR = 1e-6
"""How far a time may be from one of the grid, relative to the shortest interval (grids are sums of floats)."""


@dataclass(frozen=True)
class OnGrid(Path):
    """A path known on a grid.

    Attributes:
        times: the grid, increasing.
        w: the increments over its intervals, `(batch, intervals, *noise)`.
        u: their space-time integrals, shaped as `w`; None where nobody asked.
        a: their Lévy areas, `(batch, intervals, channels, channels)`; None where nobody asked.
    """

    times: tuple[float, ...]
    w: State
    u: State | None = None
    a: Tensor | None = None

    def increment(self, t0: Time, t1: Time) -> Increment:
        """That of one interval, or of several one after the other."""
        start, end = self._place(t0), self._place(t1)
        if end == start + 1:
            return self._one_by_one[start]
        found = self._several(min(start, end), max(start, end))
        return found if end > start else found.reversed(self.times[start] - self.times[end])

    def rows(self, index: Tensor) -> Path:
        """The path of the samples `index` alone."""
        u = None if self.u is None else each(lambda leaf: leaf[index], self.u)
        a = None if self.a is None else self.a[index]
        return replace(self, w=each(lambda leaf: leaf[index], self.w), u=u, a=a)

    @cached_property
    def _one_by_one(self) -> list[Increment]:
        """That of each interval, for steps that go over one at a time."""
        count = len(self.times) - 1
        w = _along(self.w)
        u = [None] * count if self.u is None else _along(self.u)
        a = [None] * count if self.a is None else self.a.unbind(1)
        return [Increment(*parts) for parts in zip(w, u, a, strict=True)]

    @cached_property
    def _places(self) -> dict[Time, int]:
        return {t: i for i, t in enumerate(self.times)}

    def _several(self, low: int, high: int) -> Increment:
        w = each(lambda leaf: leaf[:, low:high], self.w)
        total, u, a = each(lambda leaf: leaf.sum(1), w), None, None
        if self.u is not None:
            u = each(lambda x, y: joined_integrals(x, y[:, low:high], self._lengths(x, low, high)), w, self.u)
        if self.a is not None:
            a = joined_areas(leaves(w)[0], self.a[:, low:high])
        return Increment(total, u, a)

    def _lengths(self, leaf: Tensor, low: int, high: int) -> Tensor:
        """The lengths of intervals, so that they broadcast against `(batch, intervals, *noise)`."""
        lengths = [t1 - t0 for t0, t1 in pairwise(self.times[low : high + 1])]
        return leaf.new_tensor(lengths).reshape(1, -1, *[1] * (leaf.dim() - 2))

    def _place(self, t: Time) -> int:
        """Which time of the grid it is."""
        known = self._places.get(t)
        if known is not None:
            return known
        if isinstance(t, Tensor) and t.numel() != 1:
            raise InputError(
                "Increments is Brownian motion on one grid for all samples, and these have times of their own; use "
                "Interval()"
            )
        at, times = as_float(t), self.times
        i = bisect_left(times, at)
        near = min((j for j in (i - 1, i) if 0 <= j < len(times)), key=lambda j: abs(times[j] - at))
        width = min(abs(times[j + 1] - times[j]) for j in (max(near - 1, 0), min(near, len(times) - 2)))
        if abs(times[near] - at) > NEAR * width:
            raise InputError(
                f"Increments knows its path at {len(times)} times from {times[0]:g} to {times[-1]:g}, and a step ends "
                f"at {at:.6g}, which is none of them; give it a finer grid (refine=2, base=…), or use Interval()"
            )
        return near


def _along(motion: State) -> Sequence[State]:
    """The parts of a motion for each interval."""
    parts = [leaf.unbind(1) for leaf in leaves(motion)]
    return list(zip(*parts, strict=True)) if isinstance(motion, tuple) else parts[0]
