"""Station: the measuring bench, its trials. How a solver is run: through the front door, or step by step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..integrate import walk
from ..saveat import SaveAt
from ..solution import Solution
from ..solvers import Solver, Step
from ..solving import solve
from ..states import each, leaves
from ..terms import Term
from ..types import State, Time
from .problems import Problem

__all__ = [
    "biggest",
    "converted",
    "distance",
    "even_grid",
    "gradual_grid",
    "limit_slope",
    "mean_slope",
    "run",
    "stepped",
    "uneven_grid",
]


def converted(solver: Solver, dtype: torch.dtype) -> Solver:
    """The solver, or a copy of it with its learnable coefficients in this dtype."""
    return copy.deepcopy(solver).to(dtype) if isinstance(solver, nn.Module) else solver


def even_grid(problem: Problem, steps: int) -> list[float]:
    """The times of so many equal steps."""
    return [problem.at(n / steps) for n in range(steps)] + [problem.t1]


def uneven_grid(problem: Problem, steps: int) -> list[float]:
    """The times of so many steps, by turns 2/3 and 4/3 of the mean length."""
    widths = [2.0 / 3.0 if n % 2 == 0 else 4.0 / 3.0 for n in range(steps)]
    ends = [sum(widths[:n]) / sum(widths) for n in range(steps)]
    return [problem.at(end) for end in ends] + [problem.t1]


def gradual_grid(problem: Problem, steps: int) -> list[float]:
    """The times of so many steps that grow gradually, the last to three times the first."""
    return [problem.at((n / steps + (n / steps) ** 2) / 2) for n in range(steps)] + [problem.t1]


@torch.no_grad()
def run(solver: Solver, problem: Problem, grid: Sequence[float]) -> Solution:
    """Solve the problem from `grid[0]`, where its solution is known, to `grid[-1]`, one step for each interval."""
    y0 = problem.exact(grid[0])
    return solve(problem.term, y0, grid, solver=solver, saveat=SaveAt(final=True), max_steps=len(grid))


def stepped(
    solver: Solver,
    term: Term,
    y0: State,
    grid: Sequence[Time],
    visit: Callable[[Time, Time, State, Step], None] = lambda t0, t1, y0, step: None,
) -> Step:
    """Step along the grid; `visit(t0, t1, y0, step)` sees each step. Returns the last."""

    def one(n: int, t0: Time, t1: Time, before: Step) -> Step:
        step = solver.step(term.over(t0, t1), t0, t1, before.y, before.carry)
        visit(t0, t1, before.y, step)
        return step

    return walk(grid, one, Step(y0, solver.init(term, grid[0], grid[-1], y0)))


def biggest(y: State) -> float:
    """The largest absolute value of a state."""
    return max(float(leaf.abs().max()) for leaf in leaves(y))


def distance(a: State, b: State) -> float:
    """The root mean square of the difference of two states."""
    parts = [part.flatten() for part in leaves(each(torch.sub, a, b))]
    return float(torch.cat(parts).square().mean().sqrt())


def limit_slope(points: Sequence[tuple[float, float]]) -> float:
    """The p of e = c·hᵖ·exp(a·h) that fits points (h, e) best, by least squares in logarithms.

    That is the slope of log e over log h as h goes to zero, where the next term of the error is gone.
    """
    rows = torch.tensor([[1.0, math.log(h), h] for h, _ in points], dtype=torch.float64)
    sizes = torch.tensor([[math.log(e)] for _, e in points], dtype=torch.float64)
    return float(torch.linalg.lstsq(rows, sizes).solution[1])


def mean_slope(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The order that errors at so many steps show, by the least squares line through their logarithms.

    For errors without a smooth next term, those of random paths. NaN where an error is zero or not finite.
    """
    if not all(math.isfinite(error) and error > 0 for error in errors):
        return math.nan
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (steps, errors))
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / x.square().sum())
