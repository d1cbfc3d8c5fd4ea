"""Station: the clock, over a grid that is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from ..errors import MaxSteps, NoConvergence, NonFinite, SolverFailure
from ..interpolation import Dense, Segment, with_rows
from ..problem import Path, Problem
from ..solution import Stats, Tally
from ..solvers import Step
from ..states import each, finite_samples, is_finite, leaves
from ..terms import Term
from ..times import Array, Places
from ..types import Carry, State, Tensor, Time
from .failing import HINT_INNER, HINT_NAN
from .moves import Move, Opening, Renewal, Took, Watch, renewed, taken
from .stepper import Stepper
from .stops import Bools, inside

__all__ = ["Fixed", "walk"]

S = TypeVar("S")


def walk(times: Sequence[Time], visit: Callable[[int, Time, Time, S], S], state: S, backward: bool = False) -> S:
    """The loop over a fixed grid: `state = visit(n, t_n, t_n+1, state)` for every step, in either direction."""
    steps = range(len(times) - 1)
    for n in reversed(steps) if backward else steps:
        state = visit(n, times[n], times[n + 1], state)
    return state


class Fixed:
    """A solve over a grid that is known beforehand; `MaxSteps` at once if the grid is too long."""

    def __init__(self, problem: Problem, watch: Watch | None = None) -> None:
        self.problem, self.tally, self.watch = problem, Tally(), watch
        self.last: Places | None = None  # the step after which each sample has ended, once one has
        self.stepper = Stepper(problem, None, self.tally)
        alone = watch is None and problem.compile is None and not torch.compiler.is_compiling()
        self.term = self.stepper.term.private() if alone else self.stepper.term  # no one keeps memory between steps
        self.times, marks = problem.grid()
        self.keep, self.restarts = set(marks), sorted(problem.restarts())
        self.kept = [problem.y0] if 0 in self.keep else []
        self.segments: list[Segment] = []
        self.inner = torch.zeros(problem.batch, dtype=torch.int64)  # evaluations that samples made on their own
        steps = len(self.times) - 1
        if steps > problem.max_steps:
            hint = f"Raise max_steps (now {problem.max_steps}) to at least {steps}, or take longer steps."
            raise MaxSteps(f"the grid has {steps} steps", hint=hint)

    def run(self) -> Path:
        """Step from time to time, then look whether all numbers are finite."""
        y1, carry = walk(self.times, self._visit, self._start())
        if not torch.compiler.is_compiling() and not is_finite(y1):
            raise self._first_failure()
        batch = self.problem.batch
        stats = Stats(
            self.inner + self.tally.calls, torch.full((batch,), len(self.times) - 1), torch.zeros_like(self.inner)
        )
        ys = each(lambda *ys: torch.stack(ys), *self.kept) if len(self.kept) > 1 else each(lambda y: y[None], y1)
        dense = Dense(self.segments, self.problem.host_ends) if self.problem.saveat.dense else None
        return Path(ys, carry, stats, dense)

    def _start(self) -> tuple[State, Carry]:
        p = self.problem
        opening = Opening(None, self.times[0], self.times[-1])
        carry = p.solver.init(self.stepper.counted(self.term), opening.t0, opening.t1, p.y0)
        if self.watch is not None:
            self.watch.began(opening, p.y0, carry)
        return p.y0, carry

    def _visit(self, n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
        y0, carry = state
        inside0, inside1 = self._inside(t0, t1) if self.restarts else (t0, t1)  # no step sees both sides of a jump
        term, calls = self.term.over(inside0, inside1), self.tally.calls
        step, _ = self.stepper(term, inside0, inside1, y0, carry)
        takes = None if self.last is None else self.last >= n
        self._count(step, calls, n, t0, t1, takes)
        y1, carry = taken(takes, step[:2], state)
        slots = None
        if n + 1 in self.keep:
            slots = np.arange(self.problem.batch) + len(self.kept) * self.problem.batch
            self.kept.append(y1)
        if self.problem.saveat.dense:
            self._draw(term, inside0, inside1, y0, step, t0, t1)
        renewal = self._renewal(n + 1)
        carry = renewed(self.problem.solver, self.stepper.counted(self.term), y1, carry, renewal)
        if self.watch is not None:
            move = Move(None, inside0, inside1, takes, slots, renewal)
            self._show(n, Took(move, self.stepper.counted(term), y0, step, y1, carry, *self._rows_of(t0, t1)))
        return y1, carry

    def _draw(self, term: Term, inside0: Time, inside1: Time, y0: State, step: Step, t0: Time, t1: Time) -> None:
        """Keep a step as a polynomial."""
        coefficients = self.problem.solver.dense(self.stepper.counted(term), inside0, inside1, y0, step)
        rows = np.arange(self.problem.batch)
        self.segments.append(Segment(rows, *self._rows_of(t0, t1), tuple(map(with_rows, coefficients))))

    def _rows_of(self, t0: Time, t1: Time) -> tuple[Array, Array]:
        """The ends of a step for each sample, on the host."""
        start, end = (np.broadcast_to(_on_host(t), (self.problem.batch,)) for t in (t0, t1))
        return start, end

    def _renewal(self, n: int) -> Renewal | None:
        """The memory that begins anew behind the jump at time `n`, if there is one."""
        if not self.restarts or n >= len(self.times) - 1:
            return None
        start, _ = self._inside(self.times[n], self.times[n + 1])
        return None if start is self.times[n] else Renewal(None, start, self.times[-1])

    def _show(self, n: int, took: Took) -> None:
        ended = self.watch.moved(took) if self.watch is not None else None
        if ended is not None:
            self.last = np.full(self.problem.batch, len(self.times)) if self.last is None else self.last
            self.last = np.where(ended, np.minimum(self.last, n), self.last)

    def _inside(self, t0: Time, t1: Time) -> tuple[Time, Time]:
        ends, eps = (_on_host(t0), _on_host(t1)), torch.finfo(leaves(self.problem.y0)[0].dtype).eps
        moved = inside(*ends, self.restarts, eps)
        start, end = (t if same == new else float(new[0]) for t, same, new in zip((t0, t1), ends, moved, strict=True))
        return start, end

    def _count(self, step: Step, calls: int, n: int, t0: Time, t1: Time, takes: Bools | None) -> None:
        """Samples that iterate on their own cost what they say, not the calls; none may go on unconverged."""
        if step.inner is None:
            return
        self.inner += step.inner.nfe
        self.tally.calls = calls
        lost = ~step.inner.converged & finite_samples(step.y)
        lost = lost if takes is None else lost & torch.as_tensor(takes)
        if bool(lost.any()):
            where = self._where(n, t0, t1, lost)
            raise NoConvergence("the inner iteration of a step did not converge", hint=HINT_INNER, **where)

    def _where(self, n: int, t0: Time, t1: Time, lost: Tensor) -> dict[str, Any]:
        samples = [int(i) for i in lost.nonzero().flatten()]
        first = samples[0]
        t, end = (float(np.broadcast_to(_on_host(t), (self.problem.batch,))[first]) for t in (t0, t1))
        return {"t": t, "dt": end - t, "step": n, "samples": samples, "nfe": int(self.inner[first]) + self.tally.calls}

    @torch.no_grad()
    def _first_failure(self) -> SolverFailure:
        """Go through a failed solve again and find where it failed first."""
        again = Fixed(self.problem)
        again.keep, again.last = set(), self.last
        found: list[SolverFailure] = []

        def visit(n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
            if found:
                return state
            y, carry = again._visit(n, t0, t1, state)
            lost = ~finite_samples(y)
            if bool(lost.any()):
                where = again._where(n, t0, t1, lost)
                found.append(
                    NonFinite(f"the {again.tally.field} or the state became NaN or infinite", hint=HINT_NAN, **where)
                )
            return y, carry

        walk(self.times, visit, again._start())
        hint = "Evaluated once more, it stayed finite: the field draws random numbers or changes between calls."
        return found[0] if found else NonFinite("the state became NaN or infinite", hint=hint)


def _on_host(t: Time) -> Array:
    """A time, or the times of all samples, on the host."""
    return np.asarray(t.detach().cpu() if isinstance(t, Tensor) else t, dtype=np.float64).ravel()
