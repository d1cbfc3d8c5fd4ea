"""Station: between the times of a grid. Polynomials on steps, and the whole solution made of them."""

from __future__ import annotations

from collections.abc import Sequence

from .states import combine, each
from .types import State, Tensor

__all__ = ["hermite", "horner"]


def hermite(y0: State, y1: State, u0: State, u1: State) -> tuple[State, ...]:
    """Hermite's cubic on [0, 1] with values `y0`, `y1` and slopes `u0`, `u1`: its coefficients, lowest first."""
    square = combine([-3.0, 3.0, -2.0, -1.0], [y0, y1, u0, u1])
    cube = combine([2.0, -2.0, 1.0, 1.0], [y0, y1, u0, u1])
    return y0, u0, square, cube


def horner(coefficients: Sequence[State], x: float | Tensor) -> State:
    """The polynomial with these coefficients, lowest first, at `x`: a number, or `(batch,)` for each sample its own."""
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = each(lambda v, c: _beside(x, v) * v + c, value, coefficient)
    return value


def _beside(x: float | Tensor, leaf: Tensor) -> float | Tensor:
    """`x` so that it broadcasts along the axes of `leaf`."""
    return x if isinstance(x, float) else x.reshape(-1, *[1] * (leaf.dim() - 1)).to(leaf.dtype)
