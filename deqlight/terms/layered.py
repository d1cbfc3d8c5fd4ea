"""Station: the right-hand side of a deep network. Depth is time: layer n acts on the interval [n, n + 1]."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

from torch import nn

from ..errors import InputError
from ..states import as_float
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import Term, nested
from .ode import ODETerm, OrdinaryTerm

__all__ = ["Layered"]

EDGE = 1e-9
"""How far the ends of a step may lie over a layer's edge (grids are sums of floats)."""


class Layered(OrdinaryTerm):
    """dy/dt = block_n(t, y) on [n, n + 1]: a stack of blocks read as one equation, piecewise constant in its weights.

    A step lies inside one layer and takes that layer's block, at every stage: a step of length 1 by `Euler` is a
    residual block, y + block_n(y); two steps of 1/2 are the same network at twice the depth (Haber & Ruthotto 2017).

    Args:
        blocks: vector fields `(t, y) -> dy/dt`, one for each layer; results are shaped as `y`.

    Raises:
        InputError: without blocks; from `over`, for a step that crosses the edge of a layer.
    """

    continuous = False

    def __init__(self, blocks: Iterable[FieldFn | nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ODETerm(block) for block in blocks)
        if not self.layers:
            raise InputError("Layered got no blocks; it needs at least one")

    def __len__(self) -> int:
        return len(self.layers)

    def over(self, t0: Time, t1: Time) -> Term:
        """The term of the layer that the step lies in."""
        layer = self._layer(_index(t0, t1, len(self.layers)))
        return layer if self.hook is None else layer.wrap(self.hook)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The edges of layers strictly between `low` and `high`."""
        return tuple(float(n) for n in range(math.floor(low) + 1, math.ceil(high)))

    def vf(self, t: Time, y: State) -> State:
        """The field of the layer that begins at or before `t`."""
        start = min(math.floor(as_float(t)), len(self.layers) - 1)
        value: State = self.over(float(start), float(start + 1)).vf(t, y)
        return value

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The parameters of the layers between `t0` and `t1`, in order."""
        low, high = sorted((as_float(t0), as_float(t1)))
        span = range(math.floor(low + EDGE), math.ceil(high - EDGE))
        return tuple(p for n in span for p in self._layer(n).tensors(t0, t1))

    def wrap(self, hook: Hook) -> Layered:
        """The same stack with `hook` around every block; hooks nest, the newest outermost."""
        return self._replace(hook=nested(hook, self.hook))

    def _layer(self, n: int) -> ODETerm:
        return cast(ODETerm, self.layers[n])


def _index(t0: Time, t1: Time, depth: int) -> int:
    low, high = sorted((as_float(t0), as_float(t1)))
    n = math.floor((low + high) / 2)
    if not (0 <= n < depth and low >= n - EDGE and high <= n + 1 + EDGE):
        raise InputError(
            f"a step from {low:g} to {high:g} does not lie inside one layer; Layered lives on [0, {depth}], layer n on "
            "[n, n + 1]: use ts = 0, 1, …, depth, or finer grids that contain the integers (Constant(steps=…))"
        )
    return n
