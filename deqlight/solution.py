"""Station: the result of a solve, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from .errors import InputError, ShapeError, SolverFailure
from .events import Crossings
from .interpolation import Dense
from .states import each, last_of, leaves
from .terms.base import innermost, name_of
from .terms.matrix import Matrix
from .types import FieldFn, State, Tensor, Time

__all__ = ["Charge", "Solution", "Stats", "Tally", "record", "unrecorded"]


class Charge(NamedTuple):
    """A cost of a solve."""

    name: str
    weight: float
    value: Tensor
    """Of each sample, `(batch,)`."""


@dataclass
class Stats:
    """What a solve cost, each a tensor `(batch,)` of int64 on the CPU."""

    nfe: Tensor
    """Field evaluations, those of rejected steps included."""
    accepted: Tensor
    """Steps taken."""
    rejected: Tensor
    """Steps tried and thrown away."""
    parts: tuple[Stats, ...] = ()
    """Those of the solves that it is put together from, by a policy that solves some samples again."""
    costs: tuple[Charge, ...] = ()
    """What it was charged for besides: each with its weight, and `(batch,)` numbers that can be differentiated."""
    backward: int = 0
    """Field evaluations of its own backward pass."""

    @property
    def nfe_backward(self) -> int:
        """Field evaluations of the backward pass, once it has run; 0 where it goes through the stored steps."""
        return self.backward + sum(part.nfe_backward for part in self.parts)

    @nfe_backward.setter
    def nfe_backward(self, evaluations: int) -> None:
        self.backward = evaluations - sum(part.nfe_backward for part in self.parts)

    @classmethod
    def uniform(cls, batch: int, nfe: int, accepted: int) -> Stats:
        """The statistics of a solve that treats all samples alike and rejects nothing."""
        evaluations, taken, rejected = (torch.full((batch,), n, dtype=torch.int64) for n in (nfe, accepted, 0))
        return cls(evaluations, taken, rejected)


@dataclass(frozen=True)
class Solution:
    """The solution of a solve.

    Attributes:
        ts: output times `(time,)`; `(time, batch)` where each sample has its own, `(total,)` where those are ragged.
        ys: states at those times, time first: `(time, batch, *state)`, or a tuple of such tensors; for ragged times
            `(total, *state)`, one sample after the other.
        stats: what it cost, sample by sample.
        offsets: for ragged times, where those of each sample begin, and the end: `(batch + 1,)`.
        failures: what was frozen, by the policies `Freeze` and `Fallback`: the failed samples' states are NaN.
        dense: the steps as polynomials, with `SaveAt(dense=True)`.
        events: where each of the events happened that were looked for.
    """

    ts: Tensor
    ys: State
    stats: Stats
    offsets: Tensor | None = None
    failures: tuple[SolverFailure, ...] = ()
    dense: Dense | None = None
    events: tuple[Crossings, ...] = ()

    @property
    def costs(self) -> dict[str, Tensor]:
        """What each of the solve's costs came to, by name, `(batch,)`."""
        return {charge.name: charge.value for charge in self.stats.costs}

    @property
    def y1(self) -> State:
        """The state at the last time (of each sample), `(batch, *state)`."""
        if self.offsets is None:
            return last_of(self.ys)
        last = self.offsets[1:] - 1
        return each(lambda leaf: leaf[last.to(leaf.device)], self.ys)

    def at(self, t: float | Sequence[float] | Tensor) -> State:
        """The state at any time between the ends, by the solver's dense output.

        Args:
            t: a time, which gives `(batch, *state)`; times `(time,)`, or `(time, batch)` for each sample its own, which
                give `(time, batch, *state)`. A sample that failed or ended before that time is NaN.

        Raises:
            InputError: without `SaveAt(dense=True)`, and for times outside the solve.
        """
        if self.dense is None:
            raise InputError("Solution.at needs the steps, which were not kept; solve with saveat=SaveAt(dense=True)")
        times = torch.as_tensor(t, dtype=torch.float64, device=leaves(self.ys)[0].device)
        batch = self.dense.batch
        table = times.reshape(-1, 1).expand(-1, batch) if times.dim() < 2 else times
        samples = np.tile(np.arange(batch), len(table))
        rows = self.dense.points(samples, table.reshape(-1))
        unbatched = leaves(self.ys)[0].dim() == 1 and self.offsets is None
        axes = (*times.shape[:1], *(() if unbatched else (batch,)))
        return each(lambda leaf: leaf.reshape((*axes, *leaf.shape[1:])), rows)


class Tally:
    """A hook that counts the calls of a field, and refuses a result that is not of the kind of the state."""

    def __init__(self) -> None:
        self.calls = 0
        self.last: FieldFn | None = None

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        """Call the field, count it, check its shape."""
        self.calls += 1
        self.last = field
        value = field(t, y)
        if isinstance(value, Tensor) and isinstance(y, Tensor) and _alike(value, y):
            return value  # the usual case, at the least cost
        if isinstance(innermost(field), Matrix):
            _check_matrix(innermost(field), value, y)  # type: ignore[arg-type]  # it is one
            return value
        if len(leaves(value)) != len(leaves(y)) or not all(map(_alike, leaves(value), leaves(y))):
            raise ShapeError(
                f"the field '{name_of(field)}' returned {_kinds(value)}, its argument was {_kinds(y)}; "
                "dy/dt must have the shape, dtype and device of y, leaf by leaf"
            )
        return value

    @property
    def field(self) -> str:
        """The name of the field that was called last."""
        return "field" if self.last is None else f"field '{name_of(self.last)}'"


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


@contextmanager
def unrecorded() -> Iterator[None]:
    """Solves inside the block are in nobody's account: those of a check, that no training needs."""
    outer, _recorders[:] = list(_recorders), []
    try:
        yield
    finally:
        _recorders[:] = outer


def report(stats: Stats) -> None:
    """Hand the statistics of a finished solve to the enclosing `record`, if there is one."""
    if _recorders:
        _recorders[-1].append(stats)


def _alike(value: Tensor, leaf: Tensor) -> bool:
    if value.shape != leaf.shape or value.device != leaf.device:
        return False
    return value.dtype == leaf.dtype or torch.is_autocast_enabled(leaf.device.type)  # a field may then compute in less


def _check_matrix(field: Matrix, value: State, y: State) -> None:
    parts, states = leaves(value), leaves(y)
    if len(parts) != 1 or len(states) != 1 or parts[0].shape != (*states[0].shape, field.channels):
        raise ShapeError(
            f"the diffusion '{name_of(field.field)}' returned {_kinds(value)}, its argument was {_kinds(y)}; with "
            f"channels={field.channels} it must be (batch, *state, {field.channels})"
        )


def _kinds(y: State) -> str:
    """The shape, dtype and device of each leaf, as an error shows them."""
    told = (f"{tuple(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')} on {leaf.device}" for leaf in leaves(y))
    return f"[{'; '.join(told)}]"
