"""Station: the measuring bench. What a solver is measured on: an equation with a solution that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..states import each
from ..terms import Term
from ..types import State

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """A term, the time it is integrated over, and its solution as a function of time `t -> state`."""

    term: Term
    t0: float
    t1: float
    exact: Callable[[float], State]
    geometric: bool = False
    """Whether even steps are those whose ends have one ratio: levels of noise have."""

    def at(self, share: float) -> float:
        """The time at which this share of the way is done."""
        if self.geometric:
            return float(self.t0 * (self.t1 / self.t0) ** share)
        return self.t0 + (self.t1 - self.t0) * share

    @property
    def y0(self) -> State:
        """The state at `t0`."""
        return self.exact(self.t0)

    def rows(self, index: Sequence[int]) -> Problem:
        """The problem of some samples alone."""
        places = torch.tensor(index)
        return replace(
            self,
            term=self.term.rows(places),
            exact=lambda t: each(lambda leaf: leaf[places], self.exact(t)),
        )
