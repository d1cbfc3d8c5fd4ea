"""Station: the way back, by undoing the steps: exact gradients whose memory does not grow with depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import isabstract
from typing import Any, cast

import torch

from ..controllers import Controller, FixedSteps
from ..errors import InputError
from ..integrate import integrate, walk
from ..problem import Path, Problem
from ..solvers import ReversibleSolver, Solver
from ..states import leaves, tree_map, tree_tensors
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from ._shared import (
    Sums,
    Versions,
    as_input,
    autocast_as_now,
    differentiable,
    gradients_of,
    refuse_output,
    watched_by,
)
from .base import Gradient
from .replay import Call, Key, Tape

__all__ = ["Reversible"]

LEAST_MEMORY = 1e-3
"""How much of its memory a solve must keep: undoing it costs at most three of float32's seven digits."""


@dataclass(frozen=True)
class Reversible(Gradient):
    """Gradients by undoing each step with `unstep` and differentiating it alone; only the last state is stored.

    Equal to `Direct` up to rounding, for any `ReversibleSolver` on a fixed grid. Undoing a step and differentiating it
    share their field evaluations, so the way back costs one evaluation for each one of the way forth; up to two where a
    method iterates, or evaluates the field several times at one time, as a `ReversiblePair` does around methods with
    stages. A method that has less than a thousandth of its memory left at the end is refused. Running statistics and
    random numbers are those of the way forth, and autocasting is restored. A tensor that needs a gradient without being
    a parameter or declared context is refused. Once differentiable.

    Reference: Gomez et al. 2017 (arXiv 1707.04585); Chang et al. 2018 (arXiv 1709.03698).
    """

    def integrate(self, problem: Problem) -> Path:
        """Integrate without autograd, and hang the way back on the result."""
        watched = watched_by(problem)
        if not any(tensor.requires_grad for tensor in watched):
            return integrate(problem)
        refuse_output("Reversible", problem)
        if problem.own_clocks or problem.restarts():
            raise InputError(
                "Reversible undoes a fixed grid of a smooth field; for ragged times, or a field that jumps, use the "
                "gradient Checkpoint or Direct"
            )
        _check_contraction(problem)
        paths: list[Path] = []
        ys = _Solve.apply(problem, paths, *watched)  # type: ignore[no-untyped-call]  # as torch has it
        kept = ys if isinstance(problem.y0, tuple) else ys[0]
        return Path(kept, None, paths[0].stats)

    def check(self, solver: Solver, controller: Controller) -> None:
        """Refuse solvers that cannot be undone, and steps that are measured."""
        name = type(solver).__name__
        if not isinstance(solver, ReversibleSolver):
            able = ", ".join(sorted(cls.__name__ for cls in _concrete(ReversibleSolver)))
            raise InputError(
                f"Reversible got the solver {name}, which has no unstep; use one of {able}, or the gradient Direct"
            )
        if not isinstance(controller, FixedSteps):
            raise InputError(
                f"Reversible got steps by {type(controller).__name__}; it needs a fixed grid: Constant, or none"
            )


class _Solve(torch.autograd.Function):
    """A whole solve as one operation: state and tensors in, kept states out."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, paths: list[Path], *watched: Tensor) -> tuple[Tensor, ...]:
        device = leaves(problem.y0)[0].device
        path = integrate(problem)
        paths.append(path)
        ctx.problem, ctx.stats, ctx.watched, ctx.autocast = problem, path.stats, watched, autocast_as_now(device)
        ctx.versions = Versions(watched)
        ctx.layout, memory = path.carry, tree_tensors(path.carry)
        ctx.save_for_backward(*leaves(path.y1), *memory)
        return leaves(path.ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the engine builds a graph of the way back
            raise InputError("Reversible gives first derivatives alone; for create_graph=True use the gradient Direct")
        ctx.versions.check()
        saved = [tensor.detach() for tensor in ctx.saved_tensors]  # as views of the output they would need gradients
        y1 = tuple(saved.pop(0) for _ in leaves(ctx.problem.y0))
        carry = tree_map(lambda _: saved.pop(0), ctx.layout)
        y: State = y1 if isinstance(ctx.problem.y0, tuple) else y1[0]
        with ctx.autocast():
            way_back = _WayBack(ctx.problem, grads)
            way_back.run(y, carry)
        ctx.stats.nfe_backward += way_back.calls
        return (None, None, *way_back.sums.of(ctx.watched))


@dataclass
class _Cotangent:
    """Where the way back stands: the state and memory, and the gradients with respect to both."""

    y: State
    carry: Carry
    dy: list[Tensor]
    dcarry: list[Tensor | None]


class _WayBack:
    """The backward pass of a solve: undo a step, differentiate it, pass on."""

    def __init__(self, problem: Problem, grads: Sequence[Tensor]) -> None:
        self.problem, self.grads = problem, grads
        self.times, marks = problem.grid()
        self.kept = {mark: i for i, mark in enumerate(marks)}
        self.sums = Sums()
        self.calls, self.after = 0, dict[Key, Call]()
        self.whole = differentiable(*problem.term.tensors(*problem.ends), *problem.solver.tensors())

    def run(self, y: State, carry: Carry) -> None:
        """From the end to the start."""
        zeros = [torch.zeros_like(leaf) for leaf in leaves(y)]
        end = _Cotangent(y, carry, zeros, [None] * len(tree_tensors(carry)))
        end.dy = self._arriving(len(self.times) - 1, end.dy)
        start = walk(self.times, self._visit, end, backward=True)
        dy = self._through_init(start)
        for leaf, grad in zip(leaves(self.problem.y0), dy, strict=True):
            self.sums.add(leaf, grad)

    def _visit(self, n: int, t0: Time, t1: Time, end: _Cotangent) -> _Cotangent:
        """From the end of step `n` to its start."""
        solver = cast(ReversibleSolver, self.problem.solver)
        term = self.problem.term.over(t0, t1)
        tensors = self._tensors_of(term, t0, t1)
        tape = Tape(tensors, solver.info.nfe_step is not None, self.after)
        with torch.no_grad():
            start = solver.unstep(term.wrap(tape.record), t0, t1, end.y, end.carry)
        with torch.enable_grad():
            y, carry = tree_map(as_input, (start.y, start.carry))
            step = solver.step(term.wrap(tape.replay), t0, t1, y, carry)
        dy, dcarry = self._differentiate(step[:2], (y, carry), tensors, end)
        self.calls, self.after = self.calls + tape.calls, tape.left() if self.problem.term.continuous else {}
        y, carry = tree_map(torch.detach, start[:2])
        return _Cotangent(y, carry, self._arriving(n, dy), dcarry)

    def _tensors_of(self, term: Term, t0: Time, t1: Time) -> list[Tensor]:
        """What a step depends on; terms that are the same for all steps are asked once, for all of them."""
        if term is self.problem.term:
            return self.whole
        return differentiable(*term.tensors(t0, t1), *self.problem.solver.tensors())

    def _differentiate(
        self, outputs: tuple[State, Carry], inputs: tuple[State, Carry], tensors: list[Tensor], end: _Cotangent
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        cotangents = [*end.dy, *end.dcarry]
        pairs = [(o, c) for o, c in zip(tree_tensors(outputs), cotangents, strict=True) if c is not None]
        states, memory = leaves(inputs[0]), tree_tensors(inputs[1])
        sources = [*states, *(m for m in memory if m.requires_grad), *tensors]
        grads = gradients_of(pairs, sources)
        by_id = {id(source): grad for source, grad in zip(sources, grads, strict=True)}
        for tensor in tensors:
            self.sums.add(tensor, by_id[id(tensor)])
        dy = [by_id[id(leaf)] if by_id[id(leaf)] is not None else torch.zeros_like(leaf) for leaf in states]
        return cast("list[Tensor]", dy), [by_id.get(id(leaf)) for leaf in memory]

    def _through_init(self, start: _Cotangent) -> list[Tensor]:
        """The solver's memory at the start was made from the state: one more piece of the way."""
        if all(grad is None for grad in start.dcarry):
            return start.dy
        p = self.problem
        tape = Tape(self.whole, after=self.after)
        with torch.enable_grad():
            y = tree_map(as_input, start.y)
            carry = p.solver.init(p.term.wrap(tape.replay), self.times[0], self.times[-1], y)
        nothing = [None] * len(start.dy)
        through, _ = self._differentiate((y, carry), (y, None), self.whole, _Cotangent(y, None, nothing, start.dcarry))  # type: ignore[arg-type]
        self.calls += tape.calls
        return [a + b for a, b in zip(start.dy, through, strict=True)]

    def _arriving(self, n: int, dy: list[Tensor]) -> list[Tensor]:
        """Add the gradient of the state kept at time `n`, if it was kept."""
        if n not in self.kept:
            return dy
        return [d + grad[self.kept[n]] for d, grad in zip(dy, self.grads, strict=True)]


def _check_contraction(problem: Problem) -> None:
    """Refuse a solve whose memory shrinks so much that undoing it returns rounding errors."""
    rate, steps = cast(ReversibleSolver, problem.solver).contraction, len(problem.grid()[0]) - 1
    if rate == 0.0:
        raise InputError(f"Reversible got {problem.solver!r}, which forgets at once; use the gradient Direct")
    if rate**steps < LEAST_MEMORY:
        most, least = int(math.log(LEAST_MEMORY, rate)), math.ceil(1e4 * LEAST_MEMORY ** (1 / steps)) / 1e4
        raise InputError(
            f"Reversible got {problem.solver!r} over {steps} steps, which shrink its memory by {rate:g} each, to "
            f"{rate**steps:.1e} in all, and undoing them makes rounding larger by the inverse; it needs "
            f"{LEAST_MEMORY:g} or more: take {most} steps at most, a factor of {least:g} at least, or the gradient "
            "Direct"
        )


def _concrete(cls: type) -> list[type]:
    """All subclasses that can be made."""
    children: list[type] = type.__subclasses__(cls)
    below = [found for child in children for found in _concrete(child)]
    return below if isabstract(cls) else [cls, *below]
