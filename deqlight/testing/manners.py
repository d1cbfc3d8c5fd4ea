"""Station: the measuring bench, its instruments. How a solver behaves whatever the method: batches, clocks, memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..controllers import PID
from ..errors import ConformanceError, NoConvergence, NonFinite
from ..interpolation import horner
from ..solution import Solution
from ..solvers import Solver, Step
from ..solving import solve
from ..states import each, leaves, tree_map
from ..types import FieldFn, State, Tensor, Time
from .problems import Problem, problem_for
from .trial import biggest, even_grid, run, stepped

__all__ = ["batch_gap", "clock_gap", "copy_gap", "measured_batch_gap", "memory_gap", "nan_failure", "sharing_gap"]

GRID = 4
"""Steps of these short solves."""

MIDDLE = 0.5
"""Where in a step the solution between its ends is compared."""

PATIENCE = 1000
"""Calls of a field that is NaN everywhere, after which a solve of four steps is taken to go on for ever."""

TOLERANCE, TOO_LONG = 1e-5, 1.0
"""Tolerance of solves with measured steps, and a first step so long that samples reject it, not all alike."""


@torch.no_grad()
def batch_gap(solver: Solver) -> float:
    """The difference between samples solved together and each alone, on a fixed grid."""
    return _solo_gap(problem_for(solver.info), lambda problem: run(solver, problem, even_grid(problem, GRID)), False)


@torch.no_grad()
def measured_batch_gap(solver: Solver) -> float:
    """The difference between samples solved together and each alone, with measured steps; infinite if costs differ."""
    pace = PID(rtol=TOLERANCE, atol=TOLERANCE, first_step=TOO_LONG)

    def measured(problem: Problem) -> Solution:
        return solve(problem.term, problem.y0, [problem.t0, problem.t1], solver=solver, controller=pace)

    return _solo_gap(problem_for(solver.info), measured, True)


@torch.no_grad()
def clock_gap(solver: Solver) -> float:
    """The difference between time as a float and time as a tensor, of one number and of one for each sample.

    In states, error estimates and the solution between the ends of steps.
    """
    problem = problem_for(solver.info)
    grid = even_grid(problem, GRID)
    told, grids = _trace(solver, problem, grid), [[torch.tensor(t, dtype=torch.float64) for t in grid]]
    grids += [] if solver.info.uniform_steps else [[_clock(problem, t) for t in grid]]
    traces = [_trace(solver, problem, clocks) for clocks in grids]
    pairs = [pair for trace in traces for pair in zip(told, trace, strict=True)]
    return max(biggest(each(torch.sub, a, b)) for a, b in pairs)


@torch.no_grad()
def memory_gap(solver: Solver) -> float:
    """The difference that it makes to the others when a sample leaves after two steps, its memory with it."""
    problem, others = problem_for(solver.info), torch.tensor([0, 2])
    clocks = [_clock(problem, t) for t in even_grid(problem, 3)]
    half = stepped(solver, problem.term, problem.y0, clocks[:3])
    whole = solver.step(problem.term, clocks[2], clocks[3], half.y, half.carry).y
    y, carry, t0, t1 = tree_map(lambda leaf: leaf[others], (half.y, half.carry, clocks[2], clocks[3]))
    alone = solver.step(problem.term.rows(others), t0, t1, y, carry).y
    return biggest(each(lambda a, b: a[others] - b, whole, alone))


@torch.no_grad()
def sharing_gap(solver: Solver) -> float:
    """The difference that it makes to a solve when the same solver takes another's steps in between."""
    problem = problem_for(solver.info)
    other = problem.rows([1])
    grid = even_grid(problem, GRID)
    alone = stepped(solver, problem.term, problem.y0, grid).y
    beside = Step(other.y0, solver.init(other.term, grid[0], grid[-1], other.y0))

    def between(t0: Time, t1: Time, y0: State, step: Step) -> None:
        nonlocal beside
        beside = solver.step(other.term.over(t0, t1), t0, t1, beside.y, beside.carry)

    return biggest(each(torch.sub, alone, stepped(solver, problem.term, problem.y0, grid, between).y))


@torch.no_grad()
def copy_gap(solver: Solver, copied: Callable[[Solver], Solver]) -> float:
    """The difference between a solver's solution and that of its copy."""
    problem = problem_for(solver.info)
    grid = even_grid(problem, GRID)
    return biggest(each(torch.sub, run(solver, problem, grid).y1, run(copied(solver), problem, grid).y1))


@torch.no_grad()
def nan_failure(solver: Solver) -> str:
    """The name of the failure that a field of NaN ends in, or what happens instead."""
    problem, calls = problem_for(solver.info), 0

    def nan(field: FieldFn, t: Time, y: State) -> State:
        nonlocal calls
        calls += 1
        if calls > PATIENCE:
            raise ConformanceError(f"still going after {PATIENCE} calls of the field")
        return each(lambda leaf: torch.full_like(leaf, torch.nan), field(t, y))

    try:
        run(solver, replace(problem, term=problem.term.wrap(nan)), even_grid(problem, GRID))
    except (NonFinite, NoConvergence) as failure:
        return failure.kind
    except ConformanceError as error:
        return str(error)
    return "no failure"


def _solo_gap(problem: Problem, solved: Callable[[Problem], Solution], costs: bool) -> float:
    together, gaps = solved(problem), list[float]()
    for i in range(len(leaves(problem.y0)[0])):
        alone = solved(problem.rows([i]))
        if costs and _costs(alone, 0) != _costs(together, i):
            return math.inf
        gaps.append(biggest(each(lambda a, b, i=i: a[i] - b[0], together.y1, alone.y1)))
    return max(gaps)


def _costs(solution: Solution, sample: int) -> tuple[int, ...]:
    stats = solution.stats
    return tuple(int(count[sample]) for count in (stats.nfe, stats.accepted, stats.rejected))


def _trace(solver: Solver, problem: Problem, grid: Sequence[Time]) -> list[State]:
    """All that the steps along a grid give."""
    told = list[State]()

    def visit(t0: Time, t1: Time, y0: State, step: Step) -> None:
        told.extend((step.y, *([] if step.error is None else [step.error])))
        if solver.info.derivative == 1:
            told.append(horner(solver.dense(problem.term.over(t0, t1), t0, t1, y0, step), MIDDLE))

    stepped(solver, problem.term, problem.y0, grid, visit)
    return told


def _clock(problem: Problem, t: float) -> Tensor:
    """A clock for each sample, `(batch, 1, …)`, all at `t`."""
    first = leaves(problem.y0)[0]
    return torch.full((len(first), *[1] * (first.dim() - 1)), t, dtype=torch.float64)
