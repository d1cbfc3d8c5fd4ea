"""Station: the clock, its eye for signs. Where a number that is known at some points of each step passes zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..times import Array, Places
from .stops import Bools

__all__ = ["Changes", "changes", "with_vertex_of"]

NEAR = 0.25
"""How near to zero, in units of the nearest known value, a parabola must come for its vertex to be looked at."""

WORTH = 7.0
"""The largest value must be so many times the least for that: between equidistant points a parabola goes beyond the
least by an eighth of their difference at most."""


class Changes(NamedTuple):
    """Changes of sign, each between two neighbouring points of a row; all `(n,)`."""

    row: Places
    start: Array
    end: Array
    before: Array
    """The value at the start, not zero."""
    after: Array
    """The value at the end, which may be zero."""

    def where(self, wanted: Bools) -> Changes:
        """Those that are wanted, `(n,)`."""
        return Changes(self.row[wanted], *(part[wanted] for part in self[1:]))


def changes(x: Array, values: Array) -> Changes:
    """Where the values, `(points, rows)` at points in order, change their sign or arrive at zero from a sign.

    >>> found = changes(np.array([[0.0], [0.5], [1.0]]), np.array([[2.0], [0.0], [-1.0]]))
    >>> found.start, found.end
    (array([0.]), array([0.5]))
    """
    signs = np.sign(values)
    point, row = ((signs[:-1] != 0) & (signs[1:] != signs[:-1])).nonzero()
    return Changes(row, x[point, row], x[point + 1, row], values[point, row], values[point + 1, row])


def with_vertex_of(x: Array, values: Array) -> tuple[Places, Array]:
    """Rows, and for each a point, where values of one sign may hide two crossings: `(n,)` both.

    The point is the vertex of a parabola through three neighbouring points, where that comes near to zero or passes it.
    """
    sizes = np.abs(values)
    rows = (sizes.max(0) > WORTH * sizes.min(0)).nonzero()[0]
    if not len(rows):
        return rows, np.zeros(0)
    best, near = _lowest(x[:, rows], values[:, rows])
    return rows[near], best[near]


def _lowest(x: Array, values: Array) -> tuple[Array, Bools]:
    """For each row the vertex that comes nearest, and whether there is one."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope = np.diff(values, axis=0) / np.diff(x, axis=0)
        curve = np.diff(slope, axis=0) / (x[2:] - x[:-2])
        vertex = (x[:-2] + x[1:-1]) / 2 - slope[:-1] / (2 * curve)
        lowest = values[:-2] + (vertex - x[:-2]) * (slope[:-1] + curve * (vertex - x[1:-1]))
        sides = np.sign(np.stack([values[:-2], values[1:-1], values[2:]]))
        least = np.abs(np.stack([values[:-2], values[1:-1], values[2:]])).min(0)
        near = (sides == sides[0]).all(0) & (sides[0] * lowest < NEAR * least) & (vertex > x[:-2]) & (vertex < x[2:])
        depth = np.where(near, -sides[0] * lowest, -np.inf)
    return np.take_along_axis(vertex, depth.argmax(0)[None], 0)[0], near.any(0)
