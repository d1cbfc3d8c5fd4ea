"""Station 0, the noise on a fixed grid: each sample's whole path is drawn at once, and indexed by interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from ..states import each, leaves
from ..types import State, Tensor
from .base import LEVY, Brownian, Grid, Path
from .key import Per, next_stream
from .levy import area_given
from .on_grid import OnGrid

__all__ = ["Increments"]


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
            base = tuple(float(t) for t in self.base)
            rises = {t1 > t0 for t0, t1 in pairwise(base)}
            if len(base) < 2 or not all(map(math.isfinite, base)) or len(rises) > 1 or len(set(base)) < len(base):
                raise InputError(f"Increments got base={list(base)}; it needs at least two times in order")

    def draw(self, like: State, grid: Grid, area: int) -> Path:
        """The path on the base grid."""
        if self.base is None and not grid.fixed:
            raise InputError(
                "Increments is Brownian motion on a fixed grid, and this solve chooses its steps (PID, or times of "
                "each sample); use Interval(), which can be asked for any interval, or fixed steps: Constant(…)"
            )
        times = tuple(sorted(map(float, grid.times if self.base is None else self.base)))
        base = _refined(times, self.refine)
        stream, lengths = next_stream(self.key, self.seed), [t1 - t0 for t0, t1 in pairwise(base)]

        def normal(leaf: Tensor) -> Tensor:
            return stream.normal(len(lengths), leaf)

        def along(leaf: Tensor) -> Tensor:
            return leaf.new_tensor(lengths).reshape(1, -1, *[1] * (leaf.dim() - 1))

        w = each(lambda leaf: normal(leaf).mul_(along(leaf).sqrt()), like)  # the first numbers, whatever else is asked
        if not area:
            return OnGrid(base, w)
        u = each(lambda leaf, x: 0.5 * along(leaf) * x + normal(leaf) * (along(leaf) ** 3 / 12).sqrt(), like, w)
        if area < LEVY:
            return OnGrid(base, w, u)
        if len(leaves(like)) != 1 or leaves(like)[0].dim() != 2:
            raise InputError(
                "a Lévy area is that of the Brownian motions of general noise (channels=…); this noise is shaped as a "
                "state: use a solver that asks for none"
            )
        (one,), (x,), (y,) = leaves(like), leaves(w), leaves(u)
        a = area_given(x, y, along(one), normal(one.new_empty(*one.shape, one.shape[1])))
        return OnGrid(base, w, u, a)


def _refined(grid: tuple[float, ...], refine: int) -> tuple[float, ...]:
    if refine == 1:
        return grid
    inner = [t0 + (t1 - t0) * (k / refine) for t0, t1 in pairwise(grid) for k in range(refine)]
    return (*inner, grid[-1])
