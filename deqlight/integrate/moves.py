"""Station: the clock, its record. A step with everything decided: to be looked at, and to be taken again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InputError
from ..problem import Problem
from ..solvers import Solver, Step
from ..states import beside, leaves, tree_map, tree_tensors
from ..terms import Term
from ..times import Array, Places
from ..types import Carry, State, Tensor, Time
from .stops import Bools

__all__ = ["Move", "Opening", "Renewal", "Replay", "Took", "Watch", "renewed", "some", "taken"]


class Opening(NamedTuple):
    """How a solve begins: the samples that step, and the ends of the whole solve as the solver gets them."""

    rows: Places | None
    """The samples `(running,)`; None for all of the batch under one clock."""
    t0: Time
    t1: Time


class Renewal(NamedTuple):
    """Where a solver's memory is begun anew behind a jump of the field."""

    places: Places | None
    """Which of the step's rows; None for all."""
    t0: Time
    t1: Time


@dataclass(frozen=True)
class Move:
    """One step of a solve, with everything decided.

    Attributes:
        rows: the samples that step, `(running,)`, in order; None for all of the batch under one clock.
        t0: where the step begins, as the solver gets it.
        t1: where it ends.
        accept: which of the rows take it, `(running,)`; None for all.
        slots: where the state of each row is kept after it, `(running,)`, -1 where it is not; None where none is.
            Slots number the states of `Path.ys`, sample by sample: `(time, batch)` flattened, or `(total,)`.
        renewal: the memory that is begun anew after it.
    """

    rows: Places | None
    t0: Time
    t1: Time
    accept: Bools | None = None
    slots: Places | None = None
    renewal: Renewal | None = None


class Took(NamedTuple):
    """A step that was taken, for a `Watch` to look at. All states are those of the move's rows."""

    move: Move
    term: Term
    """The term over the step."""
    y0: State
    """The states before it."""
    step: Step
    """What the solver returned, for rows that did not take it as well."""
    y: State
    """The states after it."""
    carry: Carry
    """The solver's memory after it, renewed."""
    start: Array
    """Where the step begins for each row, on the host: `(running,)`."""
    end: Array
    """Where it ends: `(running,)`."""


class Watch(ABC):
    """Looks on while a solve is integrated."""

    @abstractmethod
    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """The solve begins with these states and memory (of the opening's rows)."""

    @abstractmethod
    def moved(self, took: Took) -> Bools | None:
        """A step was taken by some rows at least. Returns the rows that end here `(running,)`, None where none does.

        A sample with a clock of its own then leaves; others keep the state before the step to the end of the solve.
        """


class Replay:
    """A solve taken again, move by move, from any state on the way; nothing is measured or decided.

    Args:
        problem: the problem as it was integrated; its term may be wrapped otherwise.
        opening: how it began.
        moves: what was done, in order.
    """

    def __init__(self, problem: Problem, opening: Opening, moves: list[Move]) -> None:
        self.problem, self.opening, self.moves = problem, opening, moves
        self._rows: Places | None = None
        self._term = problem.term

    def start(self, y0: State) -> tuple[State, Carry]:
        """The states and memory before the first move, from the state of the whole batch."""
        y = some(y0, self.opening.rows)
        return y, self.problem.solver.init(self._of(self.opening.rows), self.opening.t0, self.opening.t1, y)

    def enter(self, i: int, tree: Any) -> Any:
        """What was left by move `i − 1` (or the opening), for the rows of move `i` alone."""
        before = self.moves[i - 1].rows if i else self.opening.rows
        rows = self.moves[i].rows
        if before is None or rows is None or len(before) == len(rows):
            return tree
        return some(tree, np.searchsorted(before, rows))

    def take(self, i: int, y: State, carry: Carry) -> tuple[State, Carry]:
        """Move `i`, from the states and memory that `enter` gave to those after it."""
        move, solver = self.moves[i], self.problem.solver
        term = self._of(move.rows)
        step = solver.step(term.over(move.t0, move.t1), move.t0, move.t1, y, carry)
        y, carry = taken(move.accept, (step.y, step.carry), (y, carry))
        return y, renewed(solver, term, y, carry, move.renewal)

    def go(
        self, start: int, end: int, y: State, carry: Carry, visit: Callable[[Move, State], None] | None = None
    ) -> tuple[State, Carry]:
        """The moves from `start` up to `end`, from what was left there; `visit` sees the states after each."""
        self._rows = None  # rows of a term have a graph, which ends with that of these moves
        for i in range(start, end):
            y, carry = self.take(i, *self.enter(i, (y, carry)))
            if visit is not None:
                visit(self.moves[i], y)
        return y, carry

    def _of(self, rows: Places | None) -> Term:
        if rows is None or len(rows) == self.problem.batch:
            return self.problem.term
        if rows is not self._rows:
            index = torch.as_tensor(rows, device=leaves(self.problem.y0)[0].device)
            self._rows, self._term = rows, self.problem.term.rows(index)
        return self._term


def some(tree: Any, places: Places | None) -> Any:
    """The rows of a state, a step or a memory that stand in these places; all of them for None."""
    tensors = tree_tensors(tree)
    if places is None or not tensors:
        return tree
    index = torch.as_tensor(places, device=tensors[0].device)
    return tree_map(lambda leaf: leaf[index], tree)


def taken(accept: Bools | None, new: tuple[State, Carry], old: tuple[State, Carry]) -> tuple[State, Carry]:
    """The new states and memory for the rows that take a step, the old ones for the others."""
    if accept is None or accept.all():
        return new
    if not accept.any():
        return old
    mask = torch.as_tensor(accept, device=leaves(old[0])[0].device)

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(beside(mask, a), a, b) if a.dim() else torch.where(mask[0], a, b)

    chosen: tuple[State, Carry] = tree_map(choose, new, old)
    return chosen


def renewed(solver: Solver, term: Term, y: State, carry: Carry, renewal: Renewal | None) -> Carry:
    """The memory after it is begun anew, where it is.

    Raises:
        InputError: if that cannot be done for some samples alone.
    """
    if renewal is None or not tree_tensors(carry):
        return carry
    if renewal.places is None:
        return solver.init(term, renewal.t0, renewal.t1, y)
    index = torch.as_tensor(renewal.places, device=leaves(y)[0].device)
    new = solver.init(term.rows(index), renewal.t0, renewal.t1, some(y, renewal.places))
    if len(tree_tensors(new)) != len(tree_tensors(carry)):
        raise InputError(f'{solver!r} cannot begin anew behind a jump for some samples alone; use norm="joint"')
    return tree_map(lambda a, b: a.index_copy(0, index, b), carry, new)
