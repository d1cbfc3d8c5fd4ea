"""Station: the clock. The only loops over time in the repository: one over fixed grids, one with measured steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from .controllers import AdaptiveSteps, FixedSteps
from .controllers.base import Array
from .errors import MaxSteps, NonFinite, SolverFailure, StepUnderflow
from .saveat import SaveAt
from .solution import Stats, Tally
from .solvers import Solver
from .states import as_float, each, finite_samples, is_finite, leaves, tree_map
from .terms import Term
from .terms.replay import frozen_statistics
from .types import Carry, State, Tensor, Time

__all__ = ["Path", "Problem", "integrate", "walk"]

S = TypeVar("S")
Bools: TypeAlias = NDArray[np.bool_]
Places: TypeAlias = NDArray[np.int64]

STRETCH = 1.01
"""A step that would end within a hundredth of its length before an output time is lengthened to land on it."""

UNDERFLOW = 10 * np.finfo(np.float64).eps
"""Smallest step relative to the time it starts from: below it, t + dt and t are the same number."""

HINT_NAN = (
    "Look at the field at that time for those samples: a division, a logarithm, weights that diverged, a step too long."
)
HINT_STEPS = (
    "Raise max_steps, loosen the tolerance, or, if steps are tiny from the start, use a solver for stiff fields."
)
HINT_JUMP = "Loosen the tolerance, look for a jump or a pole of the field near that time, or use float64."


@dataclass(frozen=True)
class Problem:
    """Everything a solve is made of, checked; gradient methods wrap its integration."""

    term: Term
    solver: Solver
    y0: State
    ts: tuple[Time, ...]
    controller: FixedSteps | AdaptiveSteps
    saveat: SaveAt
    max_steps: int

    @property
    def batch(self) -> int:
        """Length of axis 0 of the state; 1 for a state without axes."""
        first = leaves(self.y0)[0]
        return first.shape[0] if first.dim() else 1

    def grid(self) -> tuple[list[Time], list[int]]:
        """For fixed steps, the times of all steps, and the places among them of the states to keep."""
        times, marks = cast(FixedSteps, self.controller).grid(self.ts)
        return times, marks[-1:] if self.saveat.final else marks


@dataclass(frozen=True)
class Path:
    """What an integration leaves: the kept states, the last one with the solver's memory, and the costs."""

    ys: State
    y1: State
    carry: Carry
    stats: Stats


def integrate(problem: Problem) -> Path:
    """Integrate the problem from `ts[0]` to `ts[-1]`.

    Raises:
        MaxSteps: if that takes more than `max_steps` steps.
        NonFinite: if the state or the field becomes NaN or infinite.
        StepUnderflow: if the tolerance asks for steps that time cannot resolve.
    """
    if isinstance(problem.controller, FixedSteps):
        return _fixed(problem, *problem.grid())
    return _Adaptive(problem, problem.controller).run()


def walk(times: Sequence[Time], visit: Callable[[int, Time, Time, S], S], state: S, backward: bool = False) -> S:
    """The loop over a fixed grid: `state = visit(n, t_n, t_n+1, state)` for every step, in either direction."""
    steps = range(len(times) - 1)
    for n in reversed(steps) if backward else steps:
        state = visit(n, times[n], times[n + 1], state)
    return state


def _fixed(problem: Problem, times: list[Time], marks: list[int]) -> Path:
    _bounded(problem, len(times) - 1)
    tally, solver, keep = Tally(), problem.solver, set(marks)
    term = problem.term.wrap(tally)
    kept = [problem.y0] if 0 in keep else []

    def visit(n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
        step = solver.step(term.over(t0, t1), t0, t1, *state)
        if n + 1 in keep:
            kept.append(step.y)
        return step.y, step.carry

    y1, carry = walk(times, visit, (problem.y0, solver.init(term, times[0], times[-1], problem.y0)))
    if not torch.compiler.is_compiling() and not is_finite(y1):
        raise _first_failure(problem, times)
    stats = Stats.uniform(problem.batch, tally.calls, len(times) - 1)
    return Path(
        each(lambda *ys: torch.stack(ys), *kept) if len(kept) > 1 else each(lambda y: y[None], y1), y1, carry, stats
    )


def _bounded(problem: Problem, steps: int) -> None:
    if steps > problem.max_steps:
        hint = f"Raise max_steps (now {problem.max_steps}) to at least {steps}, or take longer steps."
        raise MaxSteps(f"the grid has {steps} steps", hint=hint)


@torch.no_grad()
def _first_failure(problem: Problem, times: list[Time]) -> NonFinite:
    """Go through a failed solve again and find where it failed first."""
    solver, term, tally = problem.solver, problem.term, Tally()
    term = term.wrap(tally)
    found: list[NonFinite] = []

    def visit(n: int, t0: Time, t1: Time, state: tuple[State, Carry]) -> tuple[State, Carry]:
        if found:
            return state
        step = solver.step(term.over(t0, t1), t0, t1, *state)
        good = finite_samples(step.y)
        if not bool(good.all()):
            where = {
                "t": as_float(t0),
                "dt": as_float(t1 - t0),
                "step": n,
                "samples": _indices(~good),
                "nfe": tally.calls,
            }
            found.append(_non_finite(**where))
        return step.y, step.carry

    with frozen_statistics(problem.term):
        walk(times, visit, (problem.y0, solver.init(term, times[0], times[-1], problem.y0)))
    hint = "Evaluated once more, it stayed finite: the field draws random numbers or changes between calls."
    return found[0] if found else NonFinite("the state became NaN or infinite", hint=hint)


def _non_finite(**where: Any) -> NonFinite:
    return NonFinite("the field or the state became NaN or infinite", hint=HINT_NAN, **where)


def _indices(mask: Tensor) -> list[int]:
    return [int(i) for i in mask.nonzero().flatten()]


@dataclass
class _Adaptive:
    """The loop with measured steps. Each clock has its time, step and history on the host; a joint norm has one clock.

    Rejected samples try again with a smaller step while the others go on; finished ones leave the field's calls.
    """

    problem: Problem
    controller: AdaptiveSteps
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        p = self.problem
        ts = [float(t) for t in p.ts]
        self.sign = 1.0 if ts[-1] > ts[0] else -1.0
        self.stops = sorted({*ts, *p.term.jumps(min(ts), max(ts))}, reverse=self.sign < 0)
        self.outputs = {self.stops.index(t): i for i, t in enumerate(ts)}
        self.clocks = 1 if self.controller.joint else p.batch
        self.order = cast(int, p.solver.info.error_order)
        self.t = np.full(self.clocks, ts[0])
        self.goal = np.ones(self.clocks, dtype=np.int64)
        self.history = np.ones((2, self.clocks))
        self.nfe, self.accepted, self.rejected = (np.zeros(self.clocks, dtype=np.int64) for _ in range(3))
        self.alive: Places = np.arange(self.clocks)
        self.kept: list[tuple[Places, State]] = []
        self.wants_grad = torch.is_grad_enabled()

    def run(self) -> Path:
        """Step until every clock has reached the end."""
        p, term, y = self.problem, self.problem.term.wrap(self.tally), self.problem.y0
        t0, t1 = self.stops[0], self.stops[-1]
        self.dt = self.controller.first_steps(y, term.over(t0, self.stops[1]).vf(t0, y), self.order, abs(t1 - t0))
        self._check(np.isfinite(self.dt), self.dt)
        carry = p.solver.init(term, self._clock(self.t), self._clock(np.full(self.clocks, t1)), y)
        self.nfe += self.tally.calls
        for stop in range(1 if self.clocks else len(self.stops)):  # an empty batch is everywhere at once
            self._keep(np.arange(self.clocks), stop, y)
        while self.alive.size:
            y, carry = self._step(term, y, carry)
            going = self.goal[self.alive] < len(self.stops)
            if not going.all():
                term, y, carry = self._leave(going, term, y, carry)
        ys = self._gathered()
        return Path(ys, each(lambda leaf: leaf[-1], ys), carry, self._stats())

    def _step(self, term: Term, y: State, carry: Carry) -> tuple[State, Carry]:
        alive, calls = self.alive, self.tally.calls
        t, dt, goal = self.t[alive], self.dt[alive], np.asarray(self.stops)[self.goal[alive]]
        lands = np.abs(goal - t) <= dt * STRETCH
        end = np.where(lands, goal, t + self.sign * dt)
        t0, t1 = self._clock(t), self._clock(end)
        step = self.problem.solver.step(term.over(t0, t1), t0, t1, y, carry)
        errors = self.controller.errors(cast(State, step.error), y, step.y)
        accept = errors <= 1
        self.nfe[alive] += self.tally.calls - calls
        if self.wants_grad and not np.isfinite(errors).all():
            accept[:] = False  # a thrown-away NaN would still poison the gradient: no sample takes this step
        factors = self.controller.factors(errors, self.history[:, alive], self.order)
        factors = np.where(accept | (errors > 1) | ~np.isfinite(errors), factors, 1.0)
        self._advance(accept, errors, np.abs(end - t) * factors, dt, lands, end)
        y, carry = self._taken(accept, (step.y, step.carry), (y, carry))
        self._output(accept & lands, y)
        return y, carry

    def _advance(self, accept: Bools, errors: Array, new: Array, dt: Array, lands: Bools, end: Array) -> None:
        """Move the clocks of accepted steps and choose the next; a step cut short to land keeps its length."""
        alive = self.alive
        self.dt[alive] = np.where(accept & lands, np.maximum(new, dt), new)
        self.t[alive] = np.where(accept, end, self.t[alive])
        self.history[1, alive] = np.where(accept, self.history[0, alive], self.history[1, alive])
        self.history[0, alive] = np.where(accept, errors, self.history[0, alive])
        self.accepted[alive] += accept
        self.rejected[alive] += ~accept
        enough = self.dt[alive] > UNDERFLOW * np.maximum(
            np.abs(self.t[alive]), abs(self.stops[-1] - self.stops[0]) * 1e-3
        )
        self._check(enough, errors)
        tries = self.accepted[alive] + self.rejected[alive]
        self._check((tries < self.problem.max_steps) | (accept & lands), errors, steps=True)

    def _check(self, good: Bools, errors: Array, steps: bool = False) -> None:
        """Raise the failure of the clocks that are not good."""
        if good.all():
            return
        bad = self.alive[~good]
        first = int(bad[0])
        samples = tuple(range(self.problem.batch)) if self.controller.joint else tuple(int(i) for i in bad)
        t, dt, nfe = float(self.t[first]), self.sign * float(self.dt[first]), int(self.nfe[first])
        where = {"t": t, "dt": dt, "samples": samples, "nfe": nfe}
        raise self._failure(steps, bool(np.isfinite(errors[~good]).all()), where)

    def _failure(self, steps: bool, finite: bool, where: dict[str, Any]) -> SolverFailure:
        if not finite:
            return _non_finite(**where)
        if steps:
            return MaxSteps(f"{self.problem.max_steps} steps did not reach the end", hint=HINT_STEPS, **where)
        return StepUnderflow("the step became too small for time to resolve", hint=HINT_JUMP, **where)

    def _taken(self, accept: Bools, new: tuple[State, Carry], old: tuple[State, Carry]) -> tuple[State, Carry]:
        if accept.all():
            return new
        if not accept.any():
            return old
        mask = torch.as_tensor(accept, device=leaves(new[0])[0].device)
        taken: tuple[State, Carry] = tree_map(lambda a, b: torch.where(_rows_like(mask, a), a, b), new, old)
        return taken

    def _output(self, landed: Bools, y: State) -> None:
        """Keep the states of clocks that stand on an output time, and give every landed clock its next goal."""
        clocks = self.alive[landed]
        for stop in np.unique(self.goal[clocks]):
            here = landed & (self.goal[self.alive] == stop)
            self._keep(here.nonzero()[0], int(stop), y)
        self.goal[clocks] += 1

    def _keep(self, places: Places, stop: int, y: State) -> None:
        p, output = self.problem, self.outputs.get(stop)
        final = stop == len(self.stops) - 1
        if output is None or (p.saveat.final and not final):
            return
        if not self.controller.joint and places.size < self.alive.size:
            index = torch.as_tensor(places, device=leaves(y)[0].device)
            y = each(lambda leaf: leaf[index], y)
        self.kept.append(((0 if p.saveat.final else output) * p.batch + self.alive[places], y))

    def _leave(self, going: Bools, term: Term, y: State, carry: Carry) -> tuple[Term, State, Carry]:
        """Let finished clocks leave: the field is called for the others alone."""
        self.alive = self.alive[going]
        if self.controller.joint or not going.any():
            return term, y, carry
        index = torch.as_tensor(going.nonzero()[0], device=leaves(y)[0].device)
        state, memory = tree_map(lambda leaf: leaf[index], (y, carry))
        return term.rows(index), state, memory

    def _gathered(self) -> State:
        """The kept states in order: `(time, batch, *state)`."""
        if self.controller.joint:  # whole states, kept in order
            return each(lambda *parts: torch.stack(parts), *(part for _, part in self.kept))
        places = np.concatenate([where for where, _ in self.kept])
        order = torch.as_tensor(np.argsort(places), device=leaves(self.problem.y0)[0].device)
        batch, times = self.problem.batch, 1 if self.problem.saveat.final else len(self.outputs)
        return each(
            lambda *parts: torch.cat(parts)[order].reshape(times, batch, *parts[0].shape[1:]),
            *(part for _, part in self.kept),
        )

    def _clock(self, t: Array) -> Time:
        """Host times as the solver gets them: a float for a joint clock, else float64 `(batch, 1, …)`."""
        if self.controller.joint:
            return float(t[0])
        first = leaves(self.problem.y0)[0]
        return torch.as_tensor(t, dtype=torch.float64, device=first.device).reshape(-1, *[1] * (first.dim() - 1))

    def _stats(self) -> Stats:
        def each_sample(count: Places) -> Tensor:
            return torch.as_tensor(np.broadcast_to(count, (self.problem.batch,)).copy())

        return Stats(each_sample(self.nfe), each_sample(self.accepted), each_sample(self.rejected))


def _rows_like(mask: Tensor, leaf: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (leaf.dim() - 1))
