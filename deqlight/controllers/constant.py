"""Station: the pace. Equal steps between the output times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from ..states import as_float
from ..types import Tensor, Time
from .base import FixedSteps

__all__ = ["Constant"]

SLACK = 1e-9
"""How much longer than `dt` a step may be, relatively, before an interval gets one more (grids are sums of floats)."""


@dataclass(frozen=True)
class Constant(FixedSteps):
    """Equal steps between each two successive output times.

    Args:
        dt: the largest length of a step; each interval is divided into as few equal steps as this allows.
        steps: the number of steps in each interval.

    Raises:
        InputError: unless exactly one of both is given, and is positive; from a solve that is shorter than `dt`.
    """

    dt: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.dt is None) == (self.steps is None):
            raise InputError(
                f"Constant got dt={self.dt}, steps={self.steps}; it needs one of both: the length or the number"
            )
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise InputError(f"Constant got dt={self.dt}; it must be positive and finite (reversed time is in ts)")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"Constant got steps={self.steps}; it must be at least 1")

    def check(self, span: float) -> None:
        """Refuse a step that is longer than the whole solve."""
        if self.dt is not None and self.dt > span * (1 + SLACK):
            raise InputError(
                f"Constant got dt={self.dt:g} for a solve of length {span:g}; take a shorter dt, or steps=1"
            )

    def grid(self, ts: Sequence[Time]) -> tuple[list[Time], list[int]]:
        """All times, ends of intervals exactly as given, and where those stand among them."""
        times, marks = [ts[0]], [0]
        for t0, t1 in pairwise(ts):
            n = self._steps(t1 - t0)
            times += [t0 + (t1 - t0) * (i / n) for i in range(1, n)]
            times.append(t1)
            marks.append(len(times) - 1)
        return times, marks

    def _steps(self, way: Time) -> int:
        """How many steps go along a way; along that of the longest, where each sample has its own."""
        if self.dt is None:
            return self.steps or 1
        longest = as_float(way.detach().abs().max() if isinstance(way, Tensor) else abs(way))
        return max(1, math.ceil(longest / self.dt * (1 - SLACK)))
