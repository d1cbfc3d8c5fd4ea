"""Station: the integrator, as numbers. A Butcher tableau is a Runge–Kutta method."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

from ..errors import InputError

__all__ = ["Tableau"]

SUM_TOLERANCE = 1e-12
"""How far a row may sum from its node: tableaus are written as quotients of integers, exact to rounding."""


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta method: k_i = f(t + c_i h, y + h Σ a_ij k_j), y₁ = y + h Σ b_i k_i.

    Args:
        c: the nodes, one for each stage; the first is 0.
        a: the rows of the strictly lower triangle, the first of them empty.
        b: the weights of the solution.
        b_error: the weights of the solution less those of the embedded one; None without an embedded method.

    Raises:
        InputError: if the lengths do not fit, or a row of `a` does not sum to its node, or `b` to 1.
    """

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_error: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        s = len(self.b)
        if not (len(self.c) == len(self.a) == s) or any(len(row) != i for i, row in enumerate(self.a)):
            raise InputError(f"a tableau of {s} stages needs {s} nodes and rows of 0, 1, …, {s - 1} entries")
        for i, (node, row) in enumerate(zip(self.c, self.a, strict=True)):
            if not isclose(sum(row), node, abs_tol=SUM_TOLERANCE):
                raise InputError(f"row {i} of the tableau sums to {sum(row):g}, its node is {node:g}; they must agree")
        if not isclose(sum(self.b), 1.0, abs_tol=SUM_TOLERANCE):
            raise InputError(f"the weights b sum to {sum(self.b):g}; they must sum to 1")

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.b)

    @property
    def fsal(self) -> bool:
        """Whether the last stage is taken at the solution, so that it can be the first of the next step."""
        return self.stages > 1 and self.b[-1] == 0.0 and self.a[-1] == self.b[:-1]
