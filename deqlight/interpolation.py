"""Station: between the times of a grid. Polynomials on steps, and the whole solution made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .errors import InputError
from .states import beside, combine, each
from .times import Array, Places, beyond
from .types import State, Tensor

__all__ = ["Dense", "Segment", "hermite", "horner"]

BEYOND = 1e-9
"""How far outside its step, in units of it, a time may lie: where steps meet, rounding decides."""


def hermite(y0: State, y1: State, u0: State, u1: State) -> tuple[State, ...]:
    """Hermite's cubic on [0, 1] with values `y0`, `y1` and slopes `u0`, `u1`: its coefficients, lowest first."""
    square = combine([-3.0, 3.0, -2.0, -1.0], [y0, y1, u0, u1])
    cube = combine([2.0, -2.0, 1.0, 1.0], [y0, y1, u0, u1])
    return y0, u0, square, cube


def horner(coefficients: Sequence[State], x: float | Tensor) -> State:
    """A polynomial at `x`.

    Args:
        coefficients: states, lowest power first.
        x: a number; `(batch,)` for each sample its own; `(points, batch)` for several, which stand in front.
    """
    value = coefficients[-1]
    if not isinstance(x, Tensor):
        for coefficient in reversed(coefficients[:-1]):
            value = each(lambda v, c: x * v + c, value, coefficient)
        return value
    at = each(lambda leaf: x.reshape(*x.shape, *[1] * (leaf.dim() - 1)).to(leaf.dtype), value)
    for coefficient in reversed(coefficients[:-1]):
        value = each(torch.addcmul, coefficient, value, at)
    return value


@dataclass(frozen=True)
class Segment:
    """One step of some samples, as a polynomial in (t − t0)/(t1 − t0).

    Attributes:
        samples: which samples, `(rows,)`.
        t0: where the step of each begins, `(rows,)`.
        t1: where it ends, `(rows,)`.
        coefficients: states `(rows, *state)`, lowest power first.
    """

    samples: Places
    t0: Array
    t1: Array
    coefficients: tuple[State, ...]


class Dense:
    """A solution at all times: the steps of all samples, found by time.

    Args:
        segments: the steps, those of a sample in order of time.
        ends: the times where each sample begins and ends, each `(batch,)`.
        until: where events have ended samples before, `(batch,)`, NaN for the others; None where none has.
    """

    def __init__(self, segments: Sequence[Segment], ends: tuple[Array, Array], until: Array | None = None) -> None:
        self.segments, self.ends, self.batch = tuple(segments), ends, len(ends[0])
        self.until = np.full(self.batch, np.nan) if until is None else until
        samples, t0, t1 = (
            np.concatenate([np.zeros(0), *(getattr(segment, name) for segment in segments)])
            for name in ("samples", "t0", "t1")
        )
        order = np.argsort(samples, kind="stable")  # by sample, in order of time within each
        self._place, self._t0, self._t1 = order, t0[order], t1[order]
        self._first = np.searchsorted(samples[order], np.arange(self.batch + 1))

    def points(self, samples: Places, t: Tensor) -> State:
        """The states `(points, *state)` of these samples at these times, both `(points,)`.

        NaN where a sample did not get so far.

        Raises:
            InputError: for times outside the solve.
        """
        asked = t.detach().cpu().double().numpy()
        self._check(samples, asked)
        over = beyond(asked, self.until[samples], np.sign(self.ends[1] - self.ends[0])[samples])
        places = np.where(over, -1, self._find(samples, asked))
        known, device = np.maximum(places, 0), t.device
        start, length = (torch.as_tensor(v[known], device=device) for v in (self._t0, self._t1 - self._t0))
        x = (t.double() - start) / length
        rows = torch.as_tensor(self._place[known], device=device)
        powers = [each(lambda leaf: leaf[rows], coefficient) for coefficient in self._coefficients]
        missing = torch.as_tensor(places < 0, device=device)
        return each(lambda leaf: torch.where(beside(missing, leaf), torch.nan, leaf), horner(powers, x))

    def _check(self, samples: Places, asked: Array) -> None:
        low, high = np.minimum(*self.ends)[samples], np.maximum(*self.ends)[samples]
        slack = BEYOND * (high - low)
        outside = ~((asked >= low - slack) & (asked <= high + slack))
        if outside.any():
            i = int(outside.nonzero()[0][0])
            raise InputError(
                f"the solution was asked for t = {asked[i]:g}, sample {samples[i]} was solved from {low[i]:g} to "
                f"{high[i]:g}; ask for times between these"
            )

    def _find(self, samples: Places, asked: Array) -> Places:
        """The places of the steps that hold the points; -1 where there is none."""
        places = np.full(len(asked), -1)
        for sample in np.unique(samples):
            low, high = self._first[sample], self._first[sample + 1]
            if low < high:
                mine = samples == sample
                places[mine] = self._among(self._t0[low:high], self._t1[low:high], asked[mine], low)
        return places

    @staticmethod
    def _among(t0: Array, t1: Array, asked: Array, low: int) -> Places:
        sign = np.sign(t1[0] - t0[0])
        place = np.searchsorted(sign * t0, sign * asked, side="right").clip(1) - 1
        slack = BEYOND * np.abs(t1 - t0)[place]
        inside = (sign * asked >= sign * t0[place] - slack) & (sign * asked <= sign * t1[place] + slack)
        return np.where(inside, low + place, -1)

    @cached_property
    def _coefficients(self) -> list[State]:
        """All coefficients, those of all segments one after the other; a polynomial of lower degree ends in zeros."""
        degree = max(len(segment.coefficients) for segment in self.segments)
        padded = [
            (*s.coefficients, *[each(torch.zeros_like, s.coefficients[0])] * (degree - len(s.coefficients)))
            for s in self.segments
        ]
        return [each(lambda *parts: torch.cat(parts), *powers) for powers in zip(*padded, strict=True)]


def with_rows(y: State) -> State:
    """A state whose leaves have a batch axis: one without axes is a batch of one."""
    return each(lambda leaf: leaf if leaf.dim() else leaf[None], y)
