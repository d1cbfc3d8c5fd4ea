"""Station: the way back, its books: gradients of parameters, at once where all step together, else by the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from ..integrate import Move, Took
from ..solvers import Solver, Step
from ..states import as_float, like
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from ._adjoint import Adjoint, Call, Ledger
from ._quadrature import Outline, told, unlike
from ._shared import Sums, gradients_of

__all__ = ["Apart", "Together"]


class Together(Ledger):
    """For samples that share their steps: an evaluation is differentiated once, with its weight, and let go.

    Only the one that a solver carries into the next step is held until its weight there is known.

    Args:
        outline: the solver that integrates back, and what it makes of its evaluations.
        sums: the gradients so far.
        scale: what to multiply gradients by.
    """

    def __init__(self, outline: Outline, sums: Sums, scale: float) -> None:
        self.outline, self.sums, self.scale = outline, sums, scale
        self.solver: Solver = _Told(outline.solver, self)
        self.weights = list[float]()  # of the step that is taken
        self.place: int | None = None  # of the next evaluation in it; None between steps
        self.entering: Call | None = None  # the evaluation that the step begins with
        self.leaving: Call | None = None
        self.fresh: Call | None = None  # that of a memory which is begun anew
        self.step_sums = dict[int, tuple[Tensor, Tensor]]()
        self.last: tuple[Time, tuple[Tensor, ...], Call, State] | None = None  # the last evaluation between steps

    def init(self, term: Adjoint, t0: Time, t1: Time, y0: State) -> Carry:
        """The memory at the start, or behind a jump."""
        if not self.outline.carries:
            return None
        carry = self.outline.solver.init(term, t0, t1, y0)
        self.fresh = self.last[2] if self.last is not None else None
        return carry

    def step(self, term: Adjoint, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """A step, evaluation by evaluation."""
        carries = self.outline.carries
        self.weights, self.place = self.outline.weights(as_float(t0), as_float(t1)), int(carries)
        self.entering, self.fresh, self.last = self.fresh or self.entering, None, None
        self.step_sums.clear()
        step = self.outline.solver.step(term if carries else term.afresh(), t0, t1, y0, carry if carries else None)
        if self.place != len(self.weights):
            raise unlike(self.outline.solver)
        self.place = None
        return Step(step.y, step.carry if carries else None, step.error)

    def again(self, t: Time, y: tuple[Tensor, ...]) -> State | None:
        """A first step is measured where the solver's memory begins."""
        if self.place is not None or self.last is None:
            return None
        when, where, _, slopes = self.last
        return slopes if when == t and all(a is b for a, b in zip(where, y, strict=True)) else None

    def told(self, t: Time, y: tuple[Tensor, ...], call: Call, slopes: State) -> None:
        """Evaluations between steps may be asked for again."""
        if self.place is None:
            self.last = t, y, call, slopes

    def pull(self, call: Call) -> Sequence[Tensor | None]:
        """With the gradients of the parameters, if there are any."""
        pairs, needs = list(zip(call.value, call.adjoint, strict=True)), bool(call.tensors)
        if self.place is None:
            return gradients_of(pairs, call.y, retain_graph=needs)
        place, self.place = self.place, self.place + 1
        if place >= len(self.weights):
            raise unlike(self.outline.solver)
        weight, leaves = self.weights[place], place == self.outline.leaving
        if leaves:
            self.leaving = call
        if not (needs and weight) or leaves:
            return gradients_of(pairs, call.y, retain_graph=needs and leaves)
        found = gradients_of(pairs, [*call.y, *call.tensors])
        self._add(call.tensors, found[len(call.y) :], weight)
        return found[: len(call.y)]

    def moved(self, took: Took) -> None:
        """What the evaluations of the step have summed up to counts."""
        call = self.entering if self.outline.carries else None
        if call is not None and call.tensors and self.weights[0]:
            pairs = list(zip(call.value, call.adjoint, strict=True))
            self._add(call.tensors, gradients_of(pairs, call.tensors), self.weights[0])
        for tensor, total in self.step_sums.values():
            self.sums.add(tensor, total)
        self.step_sums.clear()
        self.entering, self.leaving = self.leaving, None

    def _add(self, tensors: Sequence[Tensor], grads: Sequence[Tensor | None], weight: float) -> None:
        factor = -weight * self.scale
        for tensor, grad in zip(tensors, grads, strict=True):
            if grad is None:
                continue
            before = self.step_sums.get(id(tensor))
            if before is None:
                self.step_sums[id(tensor)] = tensor, grad * factor
            else:
                before[1].add_(grad, alpha=factor)


class Apart(Ledger):
    """For samples with clocks of their own: what an evaluation is worth to each is known when the step is judged.

    Until then the graphs of all evaluations of the step are held, and none is carried over its end.

    Args:
        solver: integrates back.
        sums: the gradients so far.
        scale: what to multiply gradients by, `(batch,)`.
    """

    def __init__(self, solver: Solver, sums: Sums, scale: Tensor) -> None:
        self.within, self.sums, self.scale = solver, sums, scale
        self.solver: Solver = _Told(solver, self)
        self.calls = list[Call]()

    def init(self, term: Adjoint, t0: Time, t1: Time, y0: State) -> Carry:
        """No memory."""
        return None

    def step(self, term: Adjoint, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """A step, all of whose evaluations are made in it."""
        self.calls.clear()
        step = self.within.step(term.afresh(), t0, t1, y0, None)
        return Step(step.y, None, step.error)

    def pull(self, call: Call) -> Sequence[Tensor | None]:
        """Without the gradients of the parameters."""
        if call.tensors:
            self.calls.append(call)
        pairs = list(zip(call.value, call.adjoint, strict=True))
        return gradients_of(pairs, call.y, retain_graph=bool(call.tensors))

    def moved(self, took: Took) -> None:
        """Differentiate the evaluations, each with its weight for each sample."""
        calls = list(self.calls)
        self.calls.clear()
        if not calls:
            return
        table, pairs = self._worth(took.move, len(calls)), list[tuple[Tensor, Tensor]]()
        for i in (table != 0).any(0).nonzero().flatten().tolist():
            pairs += [(out, a * like(table[:, i], a)) for out, a in zip(calls[i].value, calls[i].adjoint, strict=True)]
        tensors = calls[0].tensors
        found = gradients_of(pairs, tensors, retain_graph=True)  # steps share that of the rows of the term
        for tensor, grad in zip(tensors, found, strict=True):
            self.sums.add(tensor, grad)

    def _worth(self, move: Move, calls: int) -> Tensor:
        """What to multiply the gradient of each evaluation by, `(rows, calls)`."""
        weights, scale = told(self.within, move.t0, move.t1).weights.to(self.scale.device), self.scale
        if weights.shape[1] != calls:
            raise unlike(self.within)
        if move.rows is not None:
            scale = scale[torch.as_tensor(move.rows, device=scale.device)]
        if move.accept is not None:
            scale = scale * torch.as_tensor(move.accept, device=scale.device)
        return weights * -scale[:, None]


class _Told(Solver):
    """A solver whose evaluations go into a ledger.

    Args:
        solver: the solver.
        ledger: calls it.
    """

    def __init__(self, solver: Solver, ledger: Together | Apart) -> None:
        self.within_it, self.ledger, self.info = solver, ledger, solver.info

    def __repr__(self) -> str:
        return repr(self.within_it)

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The memory at the start."""
        return self.ledger.init(cast(Adjoint, term), t0, t1, y0)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """The solver's step."""
        return self.ledger.step(cast(Adjoint, term), t0, t1, y0, carry)
