"""Station: the clock, its notebook. What is kept of a solve with measured steps, and put in order at the end."""

from __future__ import annotations

import numpy as np
import torch

from ..interpolation import Segment, with_rows
from ..states import each, leaves
from ..times import Array, Places
from ..types import State

__all__ = ["Outputs"]


class Outputs:
    """States that are kept, each with its slot; what never arrives stays NaN.

    Args:
        y0: a state of the kind that is kept.
        size: number of slots.
    """

    def __init__(self, y0: State, size: int) -> None:
        self.y0, self.size = y0, size
        self.segments: list[Segment] = []
        self._slots: list[Places] = []
        self._states: list[State] = []

    def keep(self, slots: Places | None, y: State) -> None:
        """Keep the rows of `y` in these slots; those in slot -1 are dropped, all of them without slots."""
        if slots is None:
            return
        kept = slots >= 0
        if not kept.any():
            return
        y = with_rows(y)
        if not kept.all():
            index = torch.as_tensor(kept.nonzero()[0], device=leaves(y)[0].device)
            y = each(lambda leaf: leaf[index], y)
        self._slots.append(slots[kept])
        self._states.append(y)

    def draw(self, samples: Places, t0: Array, t1: Array, coefficients: tuple[State, ...]) -> None:
        """Keep a step as a polynomial."""
        rows = tuple(with_rows(coefficient) for coefficient in coefficients)
        self.segments.append(Segment(samples, t0, t1, rows))

    def gathered(self) -> State:
        """The kept states in the order of their slots, `(slots, *state)`."""
        slots = np.concatenate([np.zeros(0, dtype=np.int64), *self._slots])
        if not len(slots):
            return each(lambda leaf: leaf.new_full((self.size, *leaf.shape[1:]), torch.nan), with_rows(self.y0))
        order = np.argsort(slots)
        rows = each(lambda *parts: torch.cat(parts) if len(parts) > 1 else parts[0], *self._states)
        device = leaves(rows)[0].device
        if len(slots) == self.size:
            if (order == np.arange(self.size)).all():
                return rows
            index = torch.as_tensor(order, device=device)
            return each(lambda leaf: leaf[index], rows)
        index = torch.as_tensor(slots, device=device)
        return each(
            lambda leaf: leaf.new_full((self.size, *leaf.shape[1:]), torch.nan).index_copy(0, index, leaf), rows
        )
