"""Station 0, the noise: Brownian motion, asked for its increments over intervals of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ..states import each
from ..types import State, Tensor, Time

__all__ = ["LEVY", "SPACE_TIME", "Brownian", "Grid", "Increment", "Path", "Still"]

SPACE_TIME, LEVY = 1, 2
"""What a solver needs to know of an interval besides W: the integral over time, or the Lévy area as well."""


class Increment(NamedTuple):
    """What Brownian motion did between two times. Each is shaped as the noise, `(batch, *noise)`."""

    w: State
    """W(t₁) − W(t₀)."""
    u: State | None = None
    """The space-time integral ∫ (W(s) − W(t₀)) ds over the interval; None unless asked for."""
    a: Tensor | None = None
    """The Lévy area ½ ∫ (W⊗dW − dW⊗W), `(batch, channels, channels)`; None unless asked for."""

    def reversed(self, h: float) -> Increment:
        """What it did from the end of the interval, of length `h`, to its start."""
        u = None if self.u is None else each(lambda x, y: h * x - y, self.w, self.u)
        return Increment(each(torch.neg, self.w), u, None if self.a is None else -self.a)


class Grid:
    """The times of a solve, read when they are asked for.

    Args:
        read: gives the times of all steps where they are fixed; else some, the first and the last of all samples among
            them.
        fixed: whether steps go from each of these to the next.
    """

    def __init__(self, read: Callable[[], Sequence[float]], fixed: bool) -> None:
        self._read, self.fixed = read, fixed
        self._times: tuple[float, ...] | None = None  # a cached_property has a lock, which no graph can hold

    @property
    def times(self) -> tuple[float, ...]:
        """The times."""
        if self._times is None:
            self._times = tuple(self._read())
        return self._times


class Path(ABC):
    """Brownian motion that has been drawn: the same interval always gives the same increment."""

    @abstractmethod
    def increment(self, t0: Time, t1: Time) -> Increment:
        """What it did from `t0` to `t1`, in either direction: floats, or `(batch, 1, …)` of each sample."""

    @abstractmethod
    def rows(self, index: Tensor) -> Path:
        """The path of the samples `index` alone."""


class Still(Path):
    """No motion at all: what an equation sees whose noise is switched off.

    Args:
        like: a state of the shapes of the noise, `(batch, *noise)`.
    """

    def __init__(self, like: State) -> None:
        self.zero = each(torch.zeros_like, like)

    def increment(self, t0: Time, t1: Time) -> Increment:
        """Zero."""
        return Increment(self.zero, self.zero)

    def rows(self, index: Tensor) -> Path:
        """None for fewer."""
        return Still(each(lambda leaf: leaf[index], self.zero))


class Brownian(ABC):
    """How Brownian motion is drawn; a value that configs name."""

    @abstractmethod
    def draw(self, like: State, grid: Grid, area: int) -> Path:
        """The path of a solve, by the next stream of the key in force.

        Args:
            like: a state of the shapes, dtype and device of the noise, `(batch, *noise)`; its numbers mean nothing.
            grid: the times of the solve.
            area: 0 for W alone, `SPACE_TIME`, or `LEVY`.
        """
