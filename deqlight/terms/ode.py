"""Station: the right-hand side of an ordinary differential equation, dy = f(t, y) dt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from ..errors import InputError
from ..states import axpy, each, leaves, like
from ..types import FieldFn, Hook, State, Tensor, Time, Weight
from .base import Term, nested
from .conditional import rows_of
from .slopes import Bench, Slopes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ODETerm", "OrdinaryTerm"]


class OrdinaryTerm(Term):
    """What all ordinary terms share, whatever their fields: the control is the step `t1 - t0`."""

    _bench: Bench | None = None

    def control(self, t0: Time, t1: Time) -> Time:
        """The step `t1 - t0`: a float, or `(batch, 1, ...)`."""
        return t1 - t0

    def prod(self, vf: State, control: Time) -> State:
        """The increment `vf · (t1 - t0)`, shaped as the state."""
        return each(lambda f: f * like(control, f), vf)

    def advance(self, y0: State, weights: Sequence[Weight], vfs: Sequence[State], control: Time) -> State:
        """`y0 + Σ weight · (t1 - t0) · vf`: one pass over memory for each nonzero weight, or one for all."""
        if isinstance(vfs, Slopes) and vfs.bench is not None:
            at_once = vfs.onto(y0, weights, control)
            if at_once is not None:
                return at_once
        parts = _present(weights, vfs)
        if isinstance(control, Tensor) and control.dim():  # each sample has its own: one product, not one a weight
            return axpy(control, _total(parts), y0) if parts else y0
        y = y0
        for weight, vf in parts:
            y = axpy(weight * control, vf, y)
        return y

    def slopes(self, first: State, count: int, control: Time) -> list[State]:
        """The slopes of a step of `count` of them; side by side where all samples share the step and none is traced."""
        if not (isinstance(control, float) and isinstance(first, Tensor) and Bench.serves(first)):
            return [first]
        if self._bench is None or not self._bench.fits(first, count):
            self._bench = Bench(first, count)
        return Slopes(first, self._bench)

    def increment(self, weights: Sequence[Weight], vfs: Sequence[State], control: Time) -> State:
        """`Σ weight · (t1 - t0) · vf`."""
        at_once = vfs.total(weights, control) if isinstance(vfs, Slopes) else None
        if at_once is not None:
            return at_once
        return self.prod(_total(_present(weights, vfs)), control)


def _present(weights: Sequence[Weight], vfs: Sequence[State]) -> list[tuple[Weight, State]]:
    """The values with their weights, those of weight zero left out."""
    pairs = zip(weights, vfs, strict=True)
    return [(weight, vf) for weight, vf in pairs if not (isinstance(weight, float) and weight == 0.0)]


def _total(parts: Sequence[tuple[Weight, State]]) -> State:
    """`Σ weight · vf`, of one at least."""
    (weight, vf), *others = parts
    total = each(lambda f: f * weight, vf)
    for other, value in others:
        total = axpy(other, value, total)
    return total


class ODETerm(OrdinaryTerm):
    """dy/dt = field(t, y).

    Args:
        field: `(t, y) -> dy/dt`, an `nn.Module` or a function. `y` is `(batch, *state)` or a tuple of such tensors, and
            the result is shaped as `y`. **`t` is a Python float where all samples share a clock (fixed grids, a joint
            error norm), and a tensor `(batch, 1, ...)` that broadcasts against `y` where each sample has its own.**
        context: tensors besides the module's parameters that need a gradient through a custom gradient method.
        jumps: times at which the field jumps. Measured steps end there, and the solver begins anew behind: no step sees
            both sides. Fixed grids begin anew at those that are times of the grid.

    Raises:
        InputError: if `field` cannot be called, or a jump is not a finite number.
    """

    def __init__(self, field: FieldFn | nn.Module, context: Sequence[Tensor] = (), jumps: Sequence[float] = ()) -> None:
        super().__init__()
        if not callable(field):
            raise InputError(f"ODETerm got {field!r}; it needs a vector field, callable as field(t, y)")
        self.field = field
        self.context = tuple(context)
        self.jump_times = tuple(sorted(float(t) for t in jumps))
        if not all(map(math.isfinite, self.jump_times)):
            raise InputError(f"ODETerm got jumps={list(jumps)}; they must be finite times")

    def vf(self, t: Time, y: State) -> State:
        """The field's value at `t`, `y`, shaped as `y`."""
        t = t if isinstance(t, float) else like(t, leaves(y)[0])
        return self.field(t, y) if self.hook is None else self.hook(self.field, t, y)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The declared jumps strictly between `low` and `high`."""
        return tuple(t for t in self.jump_times if low < t < high)

    def rows(self, index: Tensor) -> Self:
        """The term of the samples `index` alone, where its field is `Conditional`; else itself."""
        field = rows_of(self.field, index)
        return self if field is self.field else self._replace(_modules={**self._modules, "field": field})

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The field's parameters and the declared context."""
        return (*self.parameters(), *self.context)

    def wrap(self, hook: Hook) -> ODETerm:
        """The same term with `hook` around its field; hooks nest, the newest outermost."""
        return self._replace(hook=nested(hook, self.hook))
