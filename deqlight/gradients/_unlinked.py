"""Station: the way back, prepared. A solve without a graph that is, to the last bit, the one with a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..problem import Problem
from ..solvers import Solver, Step
from ..states import each, tree_map
from ..terms import Term
from ..types import Carry, FieldFn, State, Tensor, Time
from ._shared import as_input, explicit, unlinked

__all__ = ["cut_for", "without_graph"]


def without_graph(problem: Problem) -> Problem:
    """The problem, such that integrating it leaves no graph, and all numbers and decisions are those of `Direct`.

    Tensors still say that they need a gradient, which solvers, sums and clocks heed. Solvers of equations improve a
    root where there is a graph, so that their steps have one each, which ends with them.
    """
    term = problem.term.wrap(_unlinked_call) if explicit(problem.solver) else problem.term
    return replace(problem, term=term, solver=_Unlinked(problem.solver))


def cut_for(solver: Solver) -> Callable[[Tensor], Tensor]:
    """What makes the states and memory after a step the beginning of the next, for which a gradient is needed."""
    return as_input if explicit(solver) else unlinked


def _unlinked_call(field: FieldFn, t: Time, y: State) -> State:
    value = field(t, y)
    return value if torch.is_grad_enabled() else each(as_input, value)


class _Unlinked(Solver):
    """A solver whose steps leave no graph."""

    def __init__(self, solver: Solver) -> None:
        self.solver, self.info = solver, solver.info
        self.with_graph, self.cut = not explicit(solver), cut_for(solver)

    def __repr__(self) -> str:
        return repr(self.solver)

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The solver's memory at the start."""
        y0 = each(unlinked, y0)
        with torch.set_grad_enabled(self.with_graph):
            carry = self.solver.init(term, t0, t1, y0)
        return tree_map(self.cut, carry)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """The solver's step."""
        y0, carry = tree_map(unlinked, (y0, carry))
        with torch.set_grad_enabled(self.with_graph):
            step = self.solver.step(term, t0, t1, y0, carry)
        y1, carry = tree_map(self.cut, (step.y, step.carry))
        return Step(y1, carry, None if step.error is None else each(unlinked, step.error), inner=step.inner)
