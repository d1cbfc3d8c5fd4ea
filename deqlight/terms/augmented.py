"""Station: the right-hand side with running costs beside the state, which are integrated along."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch

from ..brownian import Grid, next_stream
from ..states import each, leaves
from ..types import Hook, State, Tensor, Time
from .base import Term
from .derivative import leaf_of
from .ode import OrdinaryTerm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Augmented", "Rate", "bare"]


class Rate(ABC):
    """What a running cost tells the term that integrates it."""

    noisy: ClassVar[bool] = False
    """Whether it needs a random direction, kept for the whole solve."""
    derives: ClassVar[bool] = False
    """Whether it differentiates the field's value with respect to the state."""

    @abstractmethod
    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """The cost per unit of time for each sample, `(batch,)`.

        Args:
            field: the field, for rates that need it at other places.
            t: the time.
            y: the state; it can be differentiated by where `derives` is set.
            f: the field's value there.
            direction: standard normal numbers shaped as the state, the same in the whole solve; None unless `noisy`.
        """


class Augmented(OrdinaryTerm):
    """A term and what it costs: the state is a tuple, those of the term and one more of `(batch, 1)` for each cost.

    Args:
        term: the term.
        rates: the running costs.
        single: whether the term's state is one tensor, not a tuple.
    """

    inner: Term

    def __init__(self, term: Term, rates: Sequence[Rate], single: bool) -> None:
        super().__init__()
        self.inner, self.rates, self.single, self.continuous = term, tuple(rates), single, term.continuous
        self.directions: tuple[State | None, ...] = (None,) * len(self.rates)

    def vf(self, t: Time, y: State) -> State:
        """The field and the rates."""
        state = bare(y, len(self.rates), self.single)
        if not any(rate.derives for rate in self.rates):
            f: State = self.inner.vf(t, state)
            return self._with_rates(t, state, f)
        wanted = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            inputs = each(lambda leaf: leaf_of(leaf, wanted), state)
            value = self._with_rates(t, inputs, self.inner.vf(t, inputs))
        return value if wanted else each(torch.detach, value)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The term for one solve, and the random directions of its costs."""
        state, directions = bare(y0, len(self.rates), self.single), []
        for rate in self.rates:
            stream = next_stream() if rate.noisy else None
            directions.append(None if stream is None else each(lambda x, s=stream: s.normal(1, x)[:, 0], state))
        return self._with(self.inner.drawn(state, grid, area), tuple(directions))

    def over(self, t0: Time, t1: Time) -> Self:
        """The term over the step, and what it costs."""
        return self._with(self.inner.over(t0, t1), self.directions)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The term's jumps."""
        return self.inner.jumps(low, high)

    def rows(self, index: Tensor) -> Self:
        """The term and its directions for the samples `index` alone."""
        picked = [None if d is None else each(lambda leaf: leaf[index], d) for d in self.directions]
        return self._with(self.inner.rows(index), tuple(picked))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the term."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same with `hook` around the fields of the term."""
        return self._with(self.inner.wrap(hook), self.directions)

    def _with_rates(self, t: Time, y: State, f: State) -> State:
        pairs = zip(self.rates, self.directions, strict=True)
        costs = [rate.rate(self.inner.vf, t, y, f, direction)[:, None] for rate, direction in pairs]
        return *leaves(f), *costs

    def _with(self, inner: Term, directions: tuple[State | None, ...]) -> Self:
        return self._replace(_modules={"inner": inner}, directions=directions)


def bare(y: State, costs: int, single: bool) -> State:
    """A state without the costs beside it, which are its last leaves."""
    parts = leaves(y)[:-costs]
    return parts[0] if single else parts
