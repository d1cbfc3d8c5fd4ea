"""Station: the events. Where a condition on the solution crosses zero: how it is asked for, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .errors import InputError, ShapeError
from .states import beside, each, leaves
from .times import Places
from .types import State, Tensor

__all__ = ["Crossings", "Event", "Found", "gathered", "no_crossings"]

Found = tuple[Places, Tensor, State]
"""Some crossings: samples `(n,)`, times `(n,)`, states `(n, *state)`."""


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens to a sample where a condition on its solution crosses zero.

    Args:
        condition: `(t, y) -> (rows,)`, a function or an `nn.Module`, smooth and acting on each sample by itself. `y` is
            the state of some samples, `(rows, *state)` or a tuple of such tensors; `t` is always a tensor
            `(rows, 1, …)` that broadcasts against the (first) state and has its dtype.
        terminal: whether a sample ends at its first event.
        direction: 1 for rising zeros alone, −1 for falling ones, along the way of the solve; 0 for both.
        effect: `(t, y) -> y`: the state behind the event, from which the sample goes on.
        data: tensors with one row for each sample of the batch; their rows follow `t` and `y` as further arguments
            of `condition` and `effect`.
        name: what errors call it; by default the name of the condition.

    Raises:
        InputError: for a condition or effect that cannot be called, another direction, an effect behind the end.

    >>> Event(lambda t, y: y[:, 0], terminal=True, direction=-1, name="ground").title
    'ground'
    """

    condition: Callable[..., Tensor]
    terminal: bool = False
    direction: int = 0
    effect: Callable[..., State] | None = None
    data: Sequence[Tensor] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not callable(self.condition) or not (self.effect is None or callable(self.effect)):
            raise InputError(
                f"Event got condition={self.condition!r}, effect={self.effect!r}; it needs functions of (t, y), such "
                "as lambda t, y: y[:, 0]"
            )
        if self.direction not in (-1, 0, 1):
            raise InputError(f"Event got direction={self.direction!r}; accepted: 1 (rising), -1 (falling), 0 (both)")
        if self.terminal and self.effect is not None:
            raise InputError(
                f"event '{self.title}' is terminal and has an effect, behind which nothing comes: drop one"
            )

    @property
    def title(self) -> str:
        """Its name, or that of its condition."""
        return self.name or getattr(self.condition, "__name__", type(self.condition).__name__)

    @property
    def halts(self) -> bool:
        """Whether a sample's steps end there, for good or for another start."""
        return self.terminal or self.effect is not None

    def rows(self, index: Tensor) -> Event:
        """The event for the samples `index` alone."""
        return replace(self, data=[tensor[index.to(tensor.device)] for tensor in self.data]) if self.data else self

    def value(self, t: Tensor, y: State) -> Tensor:
        """The condition at times `(rows,)` and states: `(rows,)`.

        Raises:
            ShapeError: if it returns anything else.
        """
        value = self.condition(beside(t, leaves(y)[0]).to(leaves(y)[0].dtype), y, *self.data)
        if not isinstance(value, Tensor) or value.shape != t.shape or not value.is_floating_point():
            got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"the condition of event '{self.title}' returned {got} for {len(t)} samples; it needs one number for "
                f"each, a floating-point tensor ({len(t)},), such as y[:, 0]"
            )
        return value

    def changed(self, t: Tensor, y: State) -> State:
        """The states behind the event, from those before it.

        Raises:
            ShapeError: if the effect returns another kind of state, or there is none.
        """
        if self.effect is None:
            raise ShapeError(f"event '{self.title}' has no effect")
        new = self.effect(beside(t, leaves(y)[0]).to(leaves(y)[0].dtype), y, *self.data)
        told, wanted = ([(tuple(leaf.shape), leaf.dtype) for leaf in leaves(state)] for state in (new, y))
        if told != wanted:
            raise ShapeError(f"the effect of event '{self.title}' returned {told}; it needs the kind of y, {wanted}")
        return new


@dataclass(frozen=True)
class Crossings:
    """Where an event happened: all crossings of a solve, one sample after the other, in order of time within each.

    Times and states are differentiable, by the implicit function theorem.

    Attributes:
        ts: the times `(total,)`, float64.
        ys: the states there, before any effect: `(total, *state)`, or a tuple of such tensors.
        offsets: where those of each sample begin, and the end: `(batch + 1,)`.
        name: that of the event.
    """

    ts: Tensor
    ys: State
    offsets: Tensor
    name: str = ""

    @property
    def samples(self) -> Tensor:
        """Whose each crossing is, `(total,)`."""
        return torch.repeat_interleave(torch.arange(len(self.offsets) - 1), self.count)

    @property
    def count(self) -> Tensor:
        """How many each sample has, `(batch,)`."""
        return self.offsets.diff()

    @property
    def t(self) -> Tensor:
        """The time of each sample's first, `(batch,)`; NaN where there is none."""
        return self._firsts(self.ts)

    @property
    def y(self) -> State:
        """The state at each sample's first, `(batch, *state)`; NaN where there is none."""
        return each(self._firsts, self.ys)

    def _firsts(self, rows: Tensor) -> Tensor:
        some = self.count > 0
        into, out = (index.to(rows.device) for index in (some.nonzero()[:, 0], self.offsets[:-1][some]))
        return rows.new_full((len(some), *rows.shape[1:]), torch.nan).index_copy(0, into, rows[out])

    @property
    def found(self) -> Found:
        """All of them, as they are gathered."""
        return self.samples.numpy(), self.ts, self.ys

    def without(self, samples: Places) -> Crossings:
        """Those of the other samples."""
        index = torch.as_tensor((~np.isin(self.samples.numpy(), samples)).nonzero()[0])
        rows = each(lambda leaf: leaf[index.to(leaf.device)], self.ys)
        return gathered([(self.samples[index].numpy(), self.ts[index.to(self.ts.device)], rows)], self)

    def joined(self, others: Iterable[tuple[Crossings, Places]]) -> Crossings:
        """These, and behind them those of other solves, each of some samples."""
        parts = ((samples[part.samples.numpy()], part.ts, part.ys) for part, samples in others)
        return gathered([self.found, *parts], self)


def gathered(parts: Iterable[Found], like: Crossings) -> Crossings:
    """Crossings put in order, those of a sample being in order of time already; `like` says of which event."""
    samples, ts, ys = zip(*parts, strict=True)
    whose = np.concatenate(samples)
    order = np.argsort(whose, kind="stable")
    index = torch.as_tensor(order, device=like.ts.device)
    rows = each(lambda *leaves: torch.cat(leaves)[index], *ys)
    offsets = np.searchsorted(whose[order], np.arange(len(like.offsets)))
    return Crossings(torch.cat(ts)[index], rows, torch.as_tensor(offsets), like.name)


def no_crossings(event: Event, y0: State) -> Crossings:
    """None yet, of the samples of this state."""
    first = leaves(y0)[0]
    ts = torch.zeros(0, dtype=torch.float64, device=first.device)
    offsets = torch.zeros(len(first) + 1, dtype=torch.int64)
    return Crossings(ts, each(lambda leaf: leaf[:0].detach(), y0), offsets, event.title)
