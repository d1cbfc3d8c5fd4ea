"""Station: the way back, taken again step by step from states held on the way: exact gradients, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from ..controllers import AdaptiveSteps
from ..errors import InputError
from ..integrate import Move, Opening, Replay, integrate
from ..problem import Path, Problem
from ..solution import Stats
from ..states import each, leaves, tree_map, tree_tensors
from ..times import OwnTimes, Places
from ..types import State, Tensor
from ._plan import cost, split
from ._script import Place, Script, States
from ._shared import (
    Counter,
    Sums,
    Versions,
    as_input,
    autocast_as_now,
    differentiable,
    explicit,
    gradients_of,
    refuse_output,
    refuse_undeclared,
    unlinked,
    watched_by,
)
from ._unlinked import cut_for, without_graph
from .base import Gradient

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint(Gradient):
    """Gradients through the steps, each taken again from a state that was held: those of `Direct`, in bounded memory.

    For every solver and every controller, measured steps and clocks of each sample among them. The way back takes the
    steps again, as they were taken and without measuring, piece by piece, and goes back through each piece by itself.
    With one state a step that is one evaluation more for each one of the way forth, with a budget of √n states for n
    steps as well; with fewer, pieces are gone over several times, as few as the budget allows. States that are no
    longer needed make room for others, so that a second backward pass of one solve takes the whole solve again.
    Differentiable any number of times: then as `Direct`, memory included.

    Args:
        budget: most states at the ends of steps that are held at a time, the start among them; besides, there is the
            graph of one piece, of at most as many steps. None holds one for each step.

    Raises:
        InputError: for a budget below 1; from a solve, for times that need a gradient, dense output, and a tensor that
            needs a gradient without being a parameter or declared context.

    Reference: Griewank & Walther, Algorithm 799: Revolve, ACM Trans. Math. Softw. 26 (2000); where the number of steps
    is not known before, Wang, Moin & Iaccarino, SIAM J. Sci. Comput. 31 (2009).
    """

    budget: int | None = None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """One that holds every state, and one that must go over pieces again."""
        return cls(), cls(2)

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise InputError(f"Checkpoint got budget={self.budget}; it needs at least 1 state, or None for one a step")

    def integrate(self, problem: Problem) -> Path:
        """Integrate without a graph, and hang the way back on the result."""
        watched = watched_by(problem)
        if not any(tensor.requires_grad for tensor in watched):
            return integrate(problem)
        refuse_output("Checkpoint", problem)
        script = Script(self.budget, _steps(problem), cut_for(problem.solver))
        with torch.set_grad_enabled(not explicit(problem.solver)):
            path = integrate(problem if problem.compile else without_graph(problem), script)
        if script.opening is None:  # no sample took a step
            return integrate(problem)
        script.ended()
        record = _Record(problem, script, path.stats)
        ys: tuple[Tensor, ...] = _Solve.apply(record, leaves(path.ys), *watched)  # type: ignore[no-untyped-call]
        return Path(ys if isinstance(problem.y0, tuple) else ys[0], None, path.stats, None, path.failures)


class _Record(NamedTuple):
    """What the way back is made from."""

    problem: Problem
    script: Script
    stats: Stats


class _Solve(torch.autograd.Function):
    """A solve that is done as one operation: state and tensors in, kept states out."""

    @staticmethod
    def forward(ctx: Any, record: _Record, ys: tuple[Tensor, ...], *watched: Tensor) -> tuple[Tensor, ...]:
        ctx.record, ctx.watched, ctx.versions = record, watched, Versions(watched)
        ctx.autocast = autocast_as_now(ys[0].device)
        ctx.save_for_backward(*leaves(record.problem.y0))
        return tuple(leaf.detach() for leaf in ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ctx.versions.check()
        y0 = ctx.saved_tensors  # refuses a second pass, where no graph was retained
        with ctx.autocast():
            back = _WayBack(ctx.record, y0, grads)
            back.run()
        ctx.record.stats.nfe_backward += back.counter.calls
        return (None, None, *back.sums.of(ctx.watched))


class _WayBack:
    """One backward pass.

    Args:
        record: the solve.
        y0: the leaves of its first state.
        grads: the gradients that arrive at the kept states, leaf by leaf.
    """

    def __init__(self, record: _Record, y0: tuple[Tensor, ...], grads: Sequence[Tensor]) -> None:
        self.script, self.sums, self.counter = record.script, Sums(), Counter()
        problem = record.problem
        self.problem = problem
        self.y0: State = y0 if isinstance(problem.y0, tuple) else y0[0]
        self.grads = [g.reshape(problem.slots, *leaf.shape[1:]) for g, leaf in zip(grads, y0, strict=True)]
        problem = replace(problem, term=problem.term.wrap(self.counter))
        opening, moves = cast(Opening, self.script.opening), self.script.moves
        self.with_graph = Replay(problem, opening, moves)
        self.without_graph = Replay(without_graph(problem), opening, moves)
        self.ends: list[Tensor | None] = []  # what arrives at the states and memory after the piece
        self.linked = False  # whether the way back needs a graph of its own
        self.looked_at: set[tuple[int, ...]] = set()

    def run(self) -> None:
        """From the end to the start; all at once, where the way back needs a graph of its own."""
        if torch.is_grad_enabled():
            self._through(0, len(self.script.moves), None)
        else:
            self._piecewise()
        slots = _slots_of_start(self.problem)
        if slots is not None:
            for leaf, grads in zip(leaves(self.problem.y0), self.grads, strict=True):
                self.sums.add(leaf, _rows(grads, slots, leaf))

    def _piecewise(self) -> None:
        """Take pieces again from the last held state on, holding others where there is room."""
        states, length, end = self.script.states, self.script.piece, len(self.script.moves)
        budget = end if self.script.budget is None else self.script.budget
        _let_go(states, end, length, budget)
        while end:
            start = states.last()
            place = states.places.get(start)
            if end - start > length:
                slots = budget + 1 - len(states)
                middle = start + length * split(-(-(end - start) // length), slots)
                place, start = self._again(start, middle, place), middle
                if slots > 1:
                    states.hold(middle, place)
                    continue
            self._through(start, end, place)
            states.drop(start)
            end = start

    def _again(self, start: int, end: int, place: Place | None) -> Place:
        """The states before move `end`."""
        with torch.set_grad_enabled(not explicit(self.problem.solver)):
            y, carry = self.without_graph.start(self.y0) if place is None else place
            found = self.without_graph.go(start, end, y, carry)
        again: Place = tree_map(self.script.cut, found)
        return again

    def _through(self, start: int, end: int, place: Place | None) -> None:
        """Take a piece again with a graph, and go back through it."""
        self.linked = linked = torch.is_grad_enabled()
        with torch.enable_grad():
            if place is None:
                inputs = each(self._as_start, self.y0)
                y, carry = self.with_graph.start(inputs)
            else:
                inputs = y, carry = tree_map(unlinked, place)
            pairs = list[tuple[Tensor, Tensor]]()
            y, carry = self.with_graph.go(start, end, y, carry, lambda move, y: pairs.extend(self._arriving(move, y)))
        outputs = tree_tensors((y, carry))
        if self.ends:
            pairs += [(out, grad) for out, grad in zip(outputs, self.ends, strict=True) if grad is not None]
        entered, tensors = tree_tensors(inputs), self._tensors(start, end)
        sources = [*differentiable(*entered), *tensors]
        self._look_at([*outputs, *(out for out, _ in pairs)], sources, tensors)
        found = dict(zip(map(id, sources), gradients_of(pairs, sources, linked), strict=True))
        for tensor in tensors:
            self.sums.add(tensor, found[id(tensor)])
        self.ends = [found.get(id(leaf)) for leaf in entered]
        if place is None:
            for leaf, grad in zip(leaves(self.problem.y0), self.ends, strict=True):
                self.sums.add(leaf, grad)

    def _as_start(self, leaf: Tensor) -> Tensor:
        """The start as that of a graph; solvers that linearise make one of their own where there is none."""
        if leaf.requires_grad and self.linked:
            return leaf.view_as(leaf)
        return unlinked(leaf) if explicit(self.problem.solver) else as_input(leaf)

    def _arriving(self, move: Move, y: State) -> list[tuple[Tensor, Tensor]]:
        """The states of a move that were kept, with the gradients that arrive there."""
        if move.slots is None:
            return []
        return [(leaf, _rows(grads, move.slots, leaf)) for leaf, grads in zip(leaves(y), self.grads, strict=True)]

    def _tensors(self, start: int, end: int) -> list[Tensor]:
        """What the steps of a piece depend on besides the state."""
        p, moves = self.problem, self.script.moves
        ends = (moves[start].t0, moves[end - 1].t1) if start else p.ends  # memory is made at the start, of anything
        return differentiable(*p.term.tensors(*ends), *p.solver.tensors())

    def _look_at(self, outputs: Sequence[Tensor], sources: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """Refuse a field that uses undeclared tensors; one look at each layer does."""
        key = tuple(map(id, tensors))
        if key not in self.looked_at:
            self.looked_at.add(key)
            refuse_undeclared(outputs, sources)


def _let_go(states: States, end: int, length: int, budget: int) -> None:
    """Let go of held states where, with room for others, less is taken again."""
    held, done = [0, *states.places], 0
    totals = []
    for i, start in enumerate(held):
        pieces = [-(-(stop - start) // length) for stop in (end, *held[i + 1 : i + 2])]
        totals.append(done + cost(pieces[0], budget - i))
        done += cost(pieces[-1], budget - i)
    best = min(range(len(held)), key=lambda i: (totals[i], -i))
    for moves in held[best + 1 :]:
        states.drop(moves)


def _rows(grads: Tensor, slots: Places, like: Tensor) -> Tensor:
    """The gradients that arrive in these slots, shaped as the states `like`; zero where the slot is −1."""
    first, kept = int(slots[0]), slots >= 0
    if first >= 0 and (np.diff(slots) == 1).all():
        return grads[first : first + len(slots)].reshape(like.shape)
    if kept.all():
        return grads[torch.as_tensor(slots, device=grads.device)]
    rows, there = (torch.as_tensor(places, device=grads.device) for places in (kept.nonzero()[0], slots[kept]))
    return torch.zeros_like(like).index_copy(0, rows, grads[there])


def _slots_of_start(problem: Problem) -> Places | None:
    """Where the first state is kept; None where it is not."""
    if problem.saveat.final:
        return None
    return cast(OwnTimes, problem.ts).offsets[:-1] if problem.ragged else np.arange(problem.batch)


def _steps(problem: Problem) -> int | None:
    """How many steps there will be; None where that is not known."""
    measured = isinstance(problem.controller, AdaptiveSteps) or problem.own_clocks
    return None if measured else len(problem.grid()[0]) - 1
