"""Station: the right-hand side in a time of its own, which runs faster or slower than that of the solve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..brownian import Grid, next_stream
from ..brownian.key import Per
from ..errors import InputError
from ..states import each
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import Term, nested
from .ode import OrdinaryTerm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Stretched"]


class Stretched(OrdinaryTerm):
    """A term solved to a random end, drawn once per solve in training: du/ds = r f(t₀ + r (s − t₀), u).

    Args:
        term: the term.
        width: the end lies this much sooner or later at most, uniformly.
        key: whether all processes have one end, or each its own.

    Raises:
        InputError: from `drawn`, for a solve not longer than the width.
    """

    inner: Term

    def __init__(self, term: Term, width: float, key: Per) -> None:
        super().__init__()
        self.inner, self.width, self.key, self.continuous = term, width, key, term.continuous
        self.rate_of_time, self.start = 1.0, 0.0

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The term with the end drawn."""
        view = self._replace(_modules={"inner": self.inner.drawn(y0, grid, area)})
        if not self.training:
            return view
        view.start, end = grid.times[0], grid.times[-1]
        span = end - view.start
        if self.width >= abs(span):
            raise InputError(f"Steer got width={self.width:g} and a solve of length {abs(span):g}; it must be shorter")
        stream = next_stream(self.key).shared()
        share = 2.0 * float(stream.uniform(1, torch.zeros(1, dtype=torch.float64))) - 1.0
        view.rate_of_time = (span + share * self.width) / span
        return view

    def vf(self, t: Time, y: State) -> State:
        """The field in its own time, `r` times."""
        value: State = self.over(t, t).vf(t, y)
        return value

    def over(self, t0: Time, t1: Time) -> Term:
        """The term over the step, its field in its own time."""
        term = self.inner.over(t0, t1)
        rate, start = self.rate_of_time, self.start
        if rate != 1.0:
            term = term.wrap(lambda field, t, y: _faster(field, start + rate * (t - start), y, rate))
        return term if self.hook is None else term.wrap(self.hook)

    def rows(self, index: Tensor) -> Self:
        """The term for the samples `index` alone."""
        return self._replace(_modules={"inner": self.inner.rows(index)})

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the term."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same with `hook` around the field in its own time."""
        return self._replace(hook=nested(hook, self.hook))


def _faster(field: FieldFn, t: Time, y: State, rate: float) -> State:
    return each(lambda f: rate * f, field(t, y))
