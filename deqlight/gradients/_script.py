"""Station: the way back, its memory. The moves of a solve, and a bounded number of its states."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ..integrate import Move, Opening, Took, Watch
from ..states import tree_map
from ..types import Carry, State, Tensor
from ._plan import planned

__all__ = ["Place", "Script", "States"]

Place: TypeAlias = tuple[State, Carry]
"""States, and the solver's memory, after a move."""


class States:
    """States that are held, by the number of moves before them; that at the start is not stored, but counts."""

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.most = 1
        """The most that were held at a time."""

    def __len__(self) -> int:
        return 1 + len(self.places)

    def hold(self, moves: int, place: Place) -> None:
        """Hold states, which come after all others that are held."""
        self.places[moves] = place
        self.most = max(self.most, len(self))

    def drop(self, moves: int) -> None:
        """Let states go, if they are held."""
        self.places.pop(moves, None)

    def last(self) -> int:
        """The latest of all."""
        return max(self.places, default=0)


class Script(Watch):
    """Writes down what a solve does, and holds states on the way.

    Where the number of steps is not known, every state is held until there are too many; then every other one is let
    go, and of those to come every other one is not held.

    Args:
        budget: most states that may be held, that at the start among them; None for one at each step.
        steps: how many steps there will be, if that is known.
        cut: makes a tensor the beginning of a graph.
    """

    def __init__(self, budget: int | None, steps: int | None, cut: Callable[[Tensor], Tensor]) -> None:
        self.budget, self.cut, self.moves, self.states = budget, cut, list[Move](), States()
        self.opening: Opening | None = None
        self.stride, places = (1, []) if budget is None or steps is None else planned(steps, budget)
        self.places = None if steps is None else set(places)
        self._last: Place | None = None  # what the next move begins with

    @property
    def piece(self) -> int:
        """How many steps are taken again as one graph."""
        return self.stride if self.budget is None else min(self.stride, self.budget)

    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """The start is held anyway."""
        self.opening = opening

    def moved(self, took: Took) -> None:
        """Hold the state before the move, if it is its turn."""
        n = len(self.moves)
        if self._last is not None and self._in_turn(n):
            self.states.hold(n, tree_map(self.cut, self._last))
        self.moves.append(took.move)
        self._last = took.y, took.carry

    def ended(self) -> None:
        """The last state is nobody's beginning."""
        self._last = None

    def _in_turn(self, n: int) -> bool:
        if self.budget is None:
            return True
        if self.places is not None:
            return n in self.places
        if n % self.stride == 0 and len(self.states) == self.budget:
            self.stride *= 2
            for moves in [m for m in self.states.places if m % self.stride]:
                self.states.drop(moves)
        return n % self.stride == 0 and len(self.states) < self.budget
