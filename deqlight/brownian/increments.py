"""Station 0, the noise on a fixed grid: each sample's whole path is drawn at once, and indexed by interval."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import InputError
from ..states import as_float, each
from ..types import State, Tensor, Time
from .base import Brownian, Grid, Increment, Path
from .key import Per, next_stream

__all__ = ["Increments"]

NEAR = 1e-6
"""How far a time may be from one of the grid, relative to the shortest interval (grids are sums of floats)."""


@dataclass(frozen=True)
class Increments(Brownian):
    """Brownian motion on a fixed grid, drawn once per solve on the CPU, a function of (seed, step, sample id) alone.

    A sample's path is bit-equal in any batch, on any number of processes, on any device, and after a resume. It is
    known on the base grid; coarser steps sum its increments, any other interval is an error.

    Args:
        key: `sample` keys each sample's path by its id; `rank` draws those of a process together, by (seed, step,
            rank), which costs a fifth: a path then depends on the batch that its sample is in.
        refine: intervals of the base grid to each step of the solve.
        base: the times of the base grid; None takes those of the solve, refined. With a base grid, solves on different
            grids see one path.
        seed: a seed of its own, which gives the same path in every solve; None takes the key in force (see `keyed`).

    Raises:
        InputError: for times that do not increase or decrease; from a solve, for steps that end between the base
            grid's times, and steps that are measured.
    """

    key: Per = "sample"
    refine: int = 1
    base: Sequence[float] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.key not in ("sample", "rank"):
            raise InputError(f"Increments got key={self.key!r}; it must be 'sample' or 'rank'")
        if self.refine < 1:
            raise InputError(f"Increments got refine={self.refine}; it must be at least 1")
        if self.base is not None:
            times = tuple(float(t) for t in self.base)
            rises = {t1 > t0 for t0, t1 in pairwise(times)}
            if len(times) < 2 or not all(map(math.isfinite, times)) or len(rises) > 1 or len(set(times)) < len(times):
                raise InputError(f"Increments got base={list(times)}; it needs at least two times in order")

    def draw(self, like: State, grid: Grid, area: int) -> Path:
        """The path on the base grid."""
        if self.base is None and not grid.fixed:
            raise InputError(
                "Increments is Brownian motion on a fixed grid, and this solve chooses its steps (PID, or times of "
                "each sample); use Interval(), which can be asked for any interval, or fixed steps: Constant(…)"
            )
        times = tuple(sorted(map(float, grid.times if self.base is None else self.base)))
        times = _refined(times, self.refine)
        lengths = [t1 - t0 for t0, t1 in pairwise(times)]
        stream = next_stream(self.key, self.seed)

        def normal(leaf: Tensor) -> Tensor:
            return stream.normal(len(lengths), leaf)

        def along(values: Sequence[float], leaf: Tensor) -> Tensor:
            return leaf.new_tensor(values).reshape(1, -1, *[1] * (leaf.dim() - 2))

        w = each(lambda leaf: normal(leaf).mul_(along([h**0.5 for h in lengths], leaf[:, None])), like)
        if not area:
            return _OnGrid(times, w)
        raise NotImplementedError


@dataclass(frozen=True)
class _OnGrid(Path):
    """A path known on a grid: `w` and the others are `(batch, intervals, *noise)`."""

    times: tuple[float, ...]
    w: State
    u: State | None = None
    a: Tensor | None = None

    def increment(self, t0: Time, t1: Time) -> Increment:
        """That of one interval, or the sum of several."""
        start, end = self._place(t0), self._place(t1)
        if end == start + 1:
            return Increment(each(lambda leaf: leaf[:, start], self.w))
        low, high = sorted((start, end))
        sign = 1.0 if end > start else -1.0
        return Increment(each(lambda leaf: leaf[:, low:high].sum(1) * sign, self.w))

    def rows(self, index: Tensor) -> Path:
        """The rows of all."""
        return replace(self, w=each(lambda leaf: leaf[index], self.w))

    def _place(self, t: Time) -> int:
        if isinstance(t, Tensor) and t.numel() != 1:
            raise InputError(
                "Increments is Brownian motion on one grid for all samples, and these have times of their own; use "
                "Interval()"
            )
        at, times = as_float(t), self.times
        i = bisect_left(times, at)
        if i < len(times) and times[i] == at:
            return i
        near = min((j for j in (i - 1, i) if 0 <= j < len(times)), key=lambda j: abs(times[j] - at))
        width = min(abs(times[j + 1] - times[j]) for j in (max(near - 1, 0), min(near, len(times) - 2)))
        if abs(times[near] - at) > NEAR * width:
            raise InputError(
                f"Increments knows its path at {len(times)} times from {times[0]:g} to {times[-1]:g}, and a step ends "
                f"at {at:.6g}, between {times[max(i - 1, 0)]:.6g} and {times[min(i, len(times) - 1)]:.6g}; give it a "
                "finer grid (refine=2, base=…), or use Interval()"
            )
        return near


def _refined(times: tuple[float, ...], refine: int) -> tuple[float, ...]:
    if refine == 1:
        return times
    inner = [t0 + (t1 - t0) * (k / refine) for t0, t1 in pairwise(times) for k in range(refine)]
    return (*inner, times[-1])
