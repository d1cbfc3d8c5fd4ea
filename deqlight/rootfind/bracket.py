"""Station: where a number vanishes. Roots between two signs, for many rows at once, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..times import Array

__all__ = ["bracketed"]

FINEST = 2.0**-53
"""Half the distance of float64 numbers below 1."""

PUSH = 4.0
"""How much farther across the root to step, each time that a bracket did not become half as long."""

PATIENCE = 40
"""Evaluations after which brackets are only halved; as many again, and a little, are then enough for any."""

MOST = PATIENCE + 54


class _Rows(NamedTuple):
    """Brackets, each `(rows,)`: the root lies between `a`, the newest point, and `b`; `c` is the point before."""

    a: Array
    b: Array
    c: Array
    fa: Array
    fb: Array
    fc: Array


def bracketed(
    fn: Callable[[Array], Array], ends: tuple[Array, Array], values: tuple[Array, Array], tolerance: Array
) -> Array:
    """The root of each row between two numbers in [0, 1], to within a tolerance.

    Inverse quadratic interpolation where three points say that it will do, else the middle.

    Args:
        fn: the function, `(rows,)` to `(rows,)`, each row by itself.
        ends: where the search begins and ends, each `(rows,)`.
        values: the function there; of different signs, the second may be zero.
        tolerance: how far off a root may be, `(rows,)`.

    Reference: Chandrupatla, A New Hybrid Quadratic/Bisection Algorithm for Finding the Zero of a Nonlinear Function
    without Using Derivatives, Adv. Eng. Softw. 28 (1997); the least step across the root grows while it is missed.

    >>> root = bracketed(lambda x: x * x - 0.25, (np.zeros(1), np.ones(1)), (-np.ones(1), np.ones(1)), np.zeros(1))
    >>> float(root[0])
    0.5
    """
    eps, push, t = np.maximum(tolerance, FINEST), np.ones_like(tolerance), np.full_like(tolerance, 0.5)
    at = _Rows(ends[1], ends[0], ends[0], values[1], values[0], values[0])
    for turn in range(MOST):
        length = np.abs(at.b - at.a)
        wide = (length > 2 * eps) & (at.fa != 0)
        if not wide.any():
            break
        x = np.where(wide, at.a + t * (at.b - at.a), at.a)
        at = _moved(at, x, fn(x), wide)
        now = np.abs(at.b - at.a)
        push = np.where(now > length / 2, push * PUSH, 1.0)
        with np.errstate(divide="ignore"):
            least = np.minimum(push * eps / now, 0.5)
        t = np.clip(_share(at), least, 1 - least) if turn < PATIENCE else np.full_like(t, 0.5)
    return np.where(np.abs(at.fa) <= np.abs(at.fb), at.a, at.b)


def _moved(at: _Rows, x: Array, f: Array, wide: NDArray[np.bool_]) -> _Rows:
    """The brackets with a new point, those that are wide."""
    same = np.sign(f) == np.sign(at.fa)
    b, fb = np.where(same, at.b, at.a), np.where(same, at.fb, at.fa)
    c, fc = np.where(same, at.a, at.b), np.where(same, at.fa, at.fb)
    return _Rows(*(np.where(wide, new, old) for new, old in zip((x, b, c, f, fb, fc), at, strict=True)))


def _share(at: _Rows) -> Array:
    """Where to go on, as a share of the way from `a` to `b`."""
    a, b, c, fa, fb, fc = at
    with np.errstate(all="ignore"):
        place, height = (a - b) / (c - b), (fa - fb) / (fc - fb)
        smooth = (height**2 < place) & ((1 - height) ** 2 < 1 - place)
        inverse = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        return np.where(smooth & np.isfinite(inverse), inverse, 0.5)
