"""Station: the right-hand side, room beside it. What a sampler remembers lies side by side, to be summed at once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.autograd import forward_ad

from ..types import Tensor

__all__ = ["Room"]

SUMMED = (torch.float32, torch.float64)
"""What can be summed at once without loss: sums of shorter numbers are rounded at each term."""


@lru_cache(maxsize=4096)
def _column(
    weights: tuple[float, ...], newest: int, size: int, filled: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The weights, which begin with the state's and go on with the newest estimate's, in the order of the rows."""
    rows = [0.0] * filled
    for age, weight in enumerate(weights[1:]):
        rows[(newest - age) % size] = weight
    return torch.tensor(rows, dtype=dtype, device=device)


class Room:
    """Room for estimates in one solve, whose memory between steps nobody but the solver holds: rows are used again."""

    def __init__(self) -> None:
        self.rows: tuple[Tensor, ...] = ()
        self._columns: list[Tensor] = []
        self._kind: tuple[object, ...] = ()

    def serves(self, y: Tensor, estimate: Tensor, size: int) -> bool:
        """Whether it has room for `size` estimates like `y`: tensors without a gradient, outside of transformations."""
        if (
            type(y) is not Tensor
            or type(estimate) is not Tensor
            or y.requires_grad
            or estimate.requires_grad
            or estimate.dtype != y.dtype
            or not y.is_contiguous()
            or torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or forward_ad._current_level >= 0
        ):
            return False
        kind = y.shape, y.dtype, y.device, size
        return kind == self._kind or self._made(y, kind, size)

    def _made(self, y: Tensor, kind: tuple[object, ...], size: int) -> bool:
        if y.dtype not in SUMMED or not y.numel() or torch.is_autocast_enabled(y.device.type):
            return False
        room = torch.empty((size, *y.shape), dtype=y.dtype, device=y.device)
        flat = room.view(size, y.numel())
        self.rows, self._columns = room.unbind(), [flat[:n].t() for n in range(size + 1)]
        self._kind = kind
        return True

    def sum(self, y: Tensor, weights: tuple[float, ...], newest: int, filled: int) -> Tensor:
        """The state and the estimates, each times its weight: the state's first, then from the newest to the oldest.

        Args:
            y: the state, contiguous.
            weights: one for each, fewer if the oldest do not count.
            newest: the row of the newest estimate.
            filled: how many rows have been written.
        """
        column = _column(weights, newest, len(self.rows), filled, y.dtype, y.device)
        total = y * weights[0] if weights[0] != 1.0 else y.clone()
        total.view(-1).addmv_(self._columns[filled], column)  # which is slow where it has to multiply what it adds to
        return total
