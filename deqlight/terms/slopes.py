"""Station: the right-hand side, its values side by side. A weighted sum of them is then one operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from ..types import State, Tensor, Time, Weight

__all__ = ["Bench", "Slopes"]

LARGEST = 1 << 11
"""Numbers of a state beyond which a sum takes as long as reading it, however many operations it is made of."""


@lru_cache(maxsize=1024)
def _row(weights: tuple[Weight, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(weights, dtype=dtype, device=device)


class Bench:
    """Room for the slopes of a step, used again by every step of a solve without gradients.

    Args:
        like: a slope.
        count: how many there are in a step.
    """

    def __init__(self, like: Tensor, count: int) -> None:
        self.shape, self.dtype, self.device = like.shape, like.dtype, like.device
        room = torch.empty((count, *like.shape), dtype=like.dtype, device=like.device)
        self.rows = room.unbind()
        flat = room.view(count, like.numel())
        self.columns = [flat[:n].t() for n in range(count + 1)]

    @staticmethod
    def serves(slope: Tensor) -> bool:
        """Whether it saves time: for a small tensor without a gradient, outside of graphs and transformations."""
        return (
            not slope.requires_grad
            and 0 < slope.numel() <= LARGEST
            and not torch.compiler.is_compiling()
            and not torch._C._are_functorch_transforms_active()
        )

    def fits(self, slope: Tensor, count: int) -> bool:
        """Whether it was made for such slopes, as many."""
        kind = slope.shape, slope.dtype, slope.device
        return len(self.rows) == count and kind == (self.shape, self.dtype, self.device)


class Slopes(list[State]):
    """The values of a field in a step, in order; those on a bench can be summed at once."""

    def __init__(self, first: State, bench: Bench | None = None) -> None:
        super().__init__()
        self.bench = bench
        self._y: Tensor | None = None
        self.append(first)

    def append(self, slope: State) -> None:
        """One more; where it does not fit beside the others, they are summed one by one."""
        bench = self.bench
        if bench is not None:
            if isinstance(slope, Tensor) and not slope.requires_grad and slope.dtype == bench.dtype:
                bench.rows[len(self)].copy_(slope)
            else:
                self.bench = None
        super().append(slope)

    def onto(self, y: State, weights: Sequence[Weight], step: Time) -> Tensor | None:
        """`y + step · Σ weight · slope` in one operation; None where it takes several."""
        bench, row = self.bench, self._row(weights, step)
        if bench is None or row is None or not isinstance(y, Tensor) or not isinstance(step, float):
            return None
        if y is not self._y:
            if y.requires_grad or y.dtype != bench.dtype or y.shape != bench.shape or not y.is_contiguous():
                return None
            self._y, self._flat = y, y.view(-1)
        return torch.addmv(self._flat, bench.columns[len(weights)], row, alpha=step).view(bench.shape)

    def total(self, weights: Sequence[Weight], step: Time) -> Tensor | None:
        """`step · Σ weight · slope` in one operation; None where it takes several."""
        bench, row = self.bench, self._row(weights, step)
        if bench is None or row is None:
            return None
        return torch.mv(bench.columns[len(weights)], row).mul_(step).view(bench.shape)

    def _row(self, weights: Sequence[Weight], step: Time) -> Tensor | None:
        """The weights as a tensor, where slopes lie side by side and all numbers are plain."""
        bench = self.bench
        if bench is None or len(weights) < 2 or not isinstance(step, float) or not isinstance(weights[0], float):
            return None
        return _row(tuple(weights), bench.dtype, bench.device)
