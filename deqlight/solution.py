"""Station: the result of a solve, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .errors import ShapeError
from .states import each, leaves
from .types import FieldFn, State, Tensor, Time

__all__ = ["Solution", "Stats", "Tally", "record"]


@dataclass
class Stats:
    """What a solve cost, each a tensor `(batch,)` of int64 on the CPU."""

    nfe: Tensor
    """Field evaluations, those of rejected steps included."""
    accepted: Tensor
    """Steps taken."""
    rejected: Tensor
    """Steps tried and thrown away."""
    nfe_backward: int = 0
    """Field evaluations of the backward pass, once it has run; 0 where it goes through the stored steps."""

    @classmethod
    def uniform(cls, batch: int, nfe: int, accepted: int) -> Stats:
        """The statistics of a solve that treats all samples alike and rejects nothing."""
        evaluations, taken, rejected = (torch.full((batch,), n, dtype=torch.int64) for n in (nfe, accepted, 0))
        return cls(evaluations, taken, rejected)


@dataclass(frozen=True)
class Solution:
    """The solution of a solve.

    Attributes:
        ts: output times `(time,)`.
        ys: states at those times, time first: `(time, batch, *state)`, or a tuple of such tensors.
        stats: what it cost, sample by sample.
    """

    ts: Tensor
    ys: State
    stats: Stats

    @property
    def y1(self) -> State:
        """The state at the last time, `(batch, *state)`."""
        return each(lambda leaf: leaf[-1], self.ys)


class Tally:
    """A hook that counts the calls of a field, and refuses a result that is not shaped as the state."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        """Call the field, count it, check its shape."""
        self.calls += 1
        value = field(t, y)
        got, needs = _shapes(value), _shapes(y)
        if got != needs:
            raise ShapeError(
                f"the field {_name(field)} returned {got}, its argument was {needs}; "
                "dy/dt must be shaped as y, leaf by leaf"
            )
        return value


_recorders: list[list[Stats]] = []  # a plain stack, which compiled code may write to; one thread solves at a time


@contextmanager
def record() -> Iterator[list[Stats]]:
    """Collect the statistics of every solve inside the block, in order: what a network spent, whatever the network.

    >>> from deqlight import ODETerm, solve
    >>> from deqlight.solvers import Heun
    >>> with record() as solves:
    ...     _ = solve(ODETerm(lambda t, y: -y), torch.ones(3, 1), [0.0, 0.5, 1.0], solver=Heun())
    >>> [stats.nfe.tolist() for stats in solves]
    [[4, 4, 4]]
    """
    inner = list[Stats]()
    _recorders.append(inner)
    try:
        yield inner
    finally:
        _recorders.pop()
        if _recorders:
            _recorders[-1].extend(inner)


def report(stats: Stats) -> None:
    """Hand the statistics of a finished solve to the enclosing `record`, if there is one."""
    if _recorders:
        _recorders[-1].append(stats)


def _shapes(y: State) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in leaves(y)]


def _name(field: FieldFn) -> str:
    return getattr(field, "__name__", type(field).__name__)
