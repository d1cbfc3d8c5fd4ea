"""Station: the integrator, as numbers. A Butcher tableau is a Runge–Kutta method."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

from ..errors import InputError

__all__ = ["Row", "Tableau", "interpolant"]

Row = tuple[float, ...]
"""One weight for each stage, or one coefficient for each power."""

SUM_TOLERANCE = 1e-12
"""How far a row may sum from its node: tableaus are written as quotients of integers, exact to rounding."""

DENSE_TOLERANCE = 1e-11
"""The same for rows of the dense output, whose entries are some hundred times larger and cancel."""


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta method: k_i = f(t + c_i h, y + h Σ a_ij k_j), y₁ = y + h Σ b_i k_i.

    Args:
        c: the nodes, one for each stage; the first is 0.
        a: the rows of the strictly lower triangle, the first of them empty.
        b: the weights of the solution.
        b_error: the weights of the solution less those of the embedded one; None without an embedded method.
        b_damp: the same for a second embedded method of lower order, e₃. The estimate is then e₅ ‖e₅‖ / √(‖e₅‖² +
            0.01 ‖e₃‖²), e₅ being that of `b_error`, with the norms of each sample.
        dense: the solution between the ends of a step, y + h Σ_i k_i Σ_k dense[i][k] θ^(k+1): for each stage, the
            further ones included, the coefficients of θ, θ², …; None without one.
        extra: rows of further stages, which `dense` alone needs; each as long as there are stages before it.

    Raises:
        InputError: if the lengths do not fit, or a row of `a` does not sum to its node, `b` to 1, or the rows of
            `dense` to `b`.
    """

    c: Row
    a: tuple[Row, ...]
    b: Row
    b_error: Row | None = None
    b_damp: Row | None = None
    dense: tuple[Row, ...] | None = None
    extra: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        s = len(self.b)
        if not (len(self.c) == len(self.a) == s) or any(len(row) != i for i, row in enumerate(self.a)):
            raise InputError(f"a tableau of {s} stages needs {s} nodes and rows of 0, 1, …, {s - 1} entries")
        for i, (node, row) in enumerate(zip(self.c, self.a, strict=True)):
            if not isclose(sum(row), node, abs_tol=SUM_TOLERANCE):
                raise InputError(f"row {i} of the tableau sums to {sum(row):g}, its node is {node:g}; they must agree")
        if not isclose(sum(self.b), 1.0, abs_tol=SUM_TOLERANCE):
            raise InputError(f"the weights b sum to {sum(self.b):g}; they must sum to 1")
        for name, weights in (("b_error", self.b_error), ("b_damp", self.b_damp)):
            if weights is not None and len(weights) != s:
                raise InputError(f"a tableau of {s} stages got {len(weights)} weights {name}; it needs one a stage")
        if self.b_damp is not None and self.b_error is None:
            raise InputError("a tableau got b_damp without b_error, the estimate that it damps; give both")
        self._check_dense(s)

    def _check_dense(self, s: int) -> None:
        stages = s + len(self.extra)
        if any(len(row) != i for i, row in enumerate(self.extra, s)):
            raise InputError(f"extra stages after {s} need rows of {s}, {s + 1}, … entries")
        if self.dense is None:
            if self.extra:
                raise InputError("a tableau got extra stages without dense, which alone needs them; give both")
            return
        if len(self.dense) != stages:
            raise InputError(f"dense got {len(self.dense)} rows; with {s} + {len(self.extra)} stages it needs {stages}")
        weights = (*self.b, *[0.0] * len(self.extra))
        for i, (row, weight) in enumerate(zip(self.dense, weights, strict=True)):
            if not isclose(sum(row), weight, abs_tol=DENSE_TOLERANCE):
                raise InputError(f"row {i} of dense sums to {sum(row):g}, not to its weight {weight:g}: y jumps at t1")

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.b)

    @property
    def fsal(self) -> bool:
        """Whether the last stage is taken at the solution, so that it can be the first of the next step."""
        return self.stages > 1 and self.b[-1] == 0.0 and self.a[-1] == self.b[:-1]


def interpolant(b: Row, *bends: Row) -> tuple[Row, ...]:
    """The rows `dense` of an FSAL method: Hermite's cubic, and what bends it without moving its ends.

    The polynomial is that of Hermite, u, plus h θ²(1 − θ)² (d₀ + θ (d₁ + (1 − θ) (d₂ + θ (d₃ + …)))), where each d is
    a weighted sum of the stages. Hairer, Nørsett & Wanner write all their continuous extensions so.

    Args:
        b: the weights of the solution, the last one that of the stage at its end.
        bends: d₀, d₁, …, as the weights of all stages, further ones included.
    """
    end = len(b) - 1
    powers = _bend_powers(len(bends))
    rows = []
    for i in range(max(map(len, bends), default=len(b))):
        weight, first, last = b[i] if i <= end else 0.0, float(i == 0), float(i == end)
        row = [first, 3 * weight - 2 * first - last, first + last - 2 * weight, *[0.0] * len(bends)]
        for bend, power in zip(bends, powers, strict=True):
            for k, coefficient in enumerate(power):
                row[k + 1] += bend[i] * coefficient
        rows.append(tuple(row))
    return tuple(rows)


def _bend_powers(count: int) -> list[list[float]]:
    """The coefficients of θ², θ³, … in θ²(1 − θ)² · (1, θ, θ(1 − θ), θ²(1 − θ), …)."""
    powers, now = [], [1.0, -2.0, 1.0]
    for n in range(count):
        powers.append(now)
        shifted = [0.0, *now]
        now = shifted if n % 2 == 0 else [a - b for a, b in zip([*now, 0.0], shifted, strict=True)]
    return powers
