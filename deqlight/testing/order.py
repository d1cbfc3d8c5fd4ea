"""Station: the measuring bench, its instruments. Orders of convergence: the slope of the error over the step size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..errors import SolverFailure
from ..interpolation import horner
from ..solvers import Solver, SolverInfo, Step
from ..states import as_float, each
from ..types import State, Time
from .law import law_order
from .probes import bent
from .problems import Problem, problem_for
from .stiff import prothero_robinson
from .told import denoises, draws
from .trial import distance, even_grid, gradual_grid, limit_slope, run, stepped, uneven_grid

__all__ = ["dense_gap", "dense_order", "error_order", "error_ratio", "layer_order", "observed_order", "stiff_order"]

LARGEST_ERROR, ROUNDING, ITERATED = 1e-3, 3e-14, 1e-12
"""Between these errors are the method's: above the first, the asymptotic range has not begun; below the second comes
rounding, which is some 1e-15 on these problems, below the third what the iterations of iterative solvers leave. The
lower end matters: a coefficient wrong in its eighth digit shows there alone."""

LARGEST_STIFF = 1e-2
"""The first of them on stiff problems, where some methods are far from the solution and their order is small."""

STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192)
"""Numbers of steps; close together where a method of order 8 has its range, in which errors fall by 256 a doubling."""

FEW_STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""The same for iterative solvers, which pay some ten times as much for a step."""

PAIRS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Even ones: half in each of two layers, or of two lengths by turns."""

NOISE_LEVELS = (128, 160, 192, 224, 256, 320)
"""The same for samplers: from much noise to little is a long way, and what they start with must not show."""

SEEN = 0.8
"""How far on the way from noise to data, in log ρ, a sampler's step begins whose error is estimated."""

STIFF_STEPS = (8, 12, 16, 24, 32, 48)
"""The same for stiff problems. Even: where R(∞) = −1, the errors of neighbouring steps cancel by turns."""

LOW, HIGH, FINE, FEW, FEW_HIGH = 48, 128, 192, 16, 24
"""Where the search ends, once enough errors are in range: for methods up to order 4, and above, whose leading errors
are small; where wrong digits are looked for; and for iterative solvers of low and of high order."""

HIGH_ORDER = 5
"""From here on, order is high."""

FEWEST, WINDOW = 4, 4
"""How many errors in range a slope needs, and the factor of steps, up to the finest, that it is fitted over."""

INSIDE, LOOKS = (0.3, 0.5, 0.7), 16
"""Where, in a step, the solution between its ends is compared; and in how many of the steps."""

TYPICAL_ERROR = 1e-3
"""A local error that a user might ask for, not so small that a method which goes on with the better of its two
solutions has left its estimate far behind."""


def observed_order(
    solver: Solver, *, backward: bool = False, uneven: bool = False, problem: Problem | None = None
) -> float:
    """The order of convergence on a smooth problem whose field depends on time.

    Args:
        solver: the solver.
        backward: integrate from the end to the start.
        uneven: take steps of 2/3 and 4/3 of the mean length by turns, or such as grow gradually, if it claims no more.
        problem: the problem; None for that of the solver's kind of term. Of samplers with noise it is the order of the
            law of their samples, see `law_order`, which has no way back.
    """
    if draws(solver.info) and problem is None:
        return law_order(solver, uneven=uneven)
    chosen, other = problem or problem_for(solver.info), gradual_grid if solver.info.smooth_steps else uneven_grid
    grid = other if uneven else even_grid
    error = partial(_final_error, solver, chosen, grid, backward)
    search = _search(solver.info, fine=not (backward or uneven))
    return _rate(error, replace(search, counts=PAIRS) if uneven and not chosen.geometric else search)


def stiff_order(solver: Solver) -> float:
    """The order on Prothero and Robinson's problem with λ = −10⁶, at steps h for which hλ is large."""
    error = partial(_final_error, solver, prothero_robinson(solver.info), even_grid, False)
    return _rate(error, _Search(STIFF_STEPS, STIFF_STEPS[-1], ROUNDING, LARGEST_STIFF))


def dense_order(solver: Solver) -> float:
    """The order of convergence between the ends of steps: of the largest error at three places in each step."""
    return _rate(partial(_inner_error, solver, problem_for(solver.info)), _search(solver.info))


def layer_order(solver: Solver) -> float:
    """The order on two layers, where the field jumps: what is carried over the edge shows as order 1."""
    error = partial(_final_error, solver, bent(solver.info), even_grid, False)
    return _rate(error, replace(_search(solver.info), counts=PAIRS))


@torch.no_grad()
def dense_gap(solver: Solver) -> float:
    """How far the solution between the ends of a step is from the states at both ends, at those ends."""
    problem, gaps = problem_for(solver.info), list[float]()

    def visit(t0: Time, t1: Time, y0: State, step: Step) -> None:
        coefficients = solver.dense(problem.term.over(t0, t1), t0, t1, y0, step)
        gaps.extend(distance(horner(coefficients, x), y) for x, y in ((0.0, y0), (1.0, step.y)))

    stepped(solver, problem.term, problem.y0, even_grid(problem, 4), visit)
    return max(gaps)


def error_order(solver: Solver) -> float:
    """The power of the step that the error estimate of one step shrinks with; NaN without an estimate."""
    return _rate(lambda n: _one_step(solver, n)[0], _search(solver.info))


def error_ratio(solver: Solver) -> float:
    """The error estimate of a step over its true error, at a step for which the estimate is about 1e-3."""
    found = [_one_step(solver, n) for n in STEPS]
    estimate, error = min(found, key=lambda pair: abs(math.log(pair[0] / TYPICAL_ERROR)) if pair[0] > 0 else math.inf)
    return estimate / error if error else math.inf


@dataclass(frozen=True)
class _Search:
    """Which numbers of steps are tried, up to which if enough errors are in range, and which that is."""

    counts: Sequence[int]
    enough: int
    smallest: float
    largest: float = LARGEST_ERROR


def _search(info: SolverInfo, fine: bool = False) -> _Search:
    high = info.order >= HIGH_ORDER
    if denoises(info):
        return _Search(NOISE_LEVELS, NOISE_LEVELS[-1], ROUNDING)
    if info.nfe_step is None:
        return _Search(FEW_STEPS, FEW_HIGH if high else FEW, ITERATED)
    return _Search(STEPS, FINE if fine else HIGH if high else LOW, ROUNDING)


def _rate(error: Callable[[int], float], search: _Search) -> float:
    """The slope of `error(steps)` as it is towards the last values in range, or the last, if none come into range.

    Coarse grids may fail: a step may be too long for the method, or for its iteration. NaN if there are too few errors.
    """
    tried, points, failures = list[tuple[int, float]](), list[tuple[int, float]](), list[SolverFailure]()
    for n in search.counts:
        if n > search.enough and len(points) > FEWEST:
            break
        try:
            size = error(n)
        except SolverFailure as failure:
            failures.append(failure)
            continue
        if size < search.smallest:
            break
        if math.isfinite(size):
            tried.append((n, size))
        if size < search.largest:
            points.append((n, size))
    if failures and not tried:
        raise failures[-1]
    points = points if len(points) >= FEWEST else tried[-FEWEST:]
    window = [(1 / n, size) for n, size in points if n * WINDOW >= points[-1][0]]
    return limit_slope(window) if len(window) >= FEWEST else math.nan


def _final_error(
    solver: Solver, problem: Problem, grid: Callable[[Problem, int], list[float]], backward: bool, steps: int
) -> float:
    times = grid(problem, steps)
    times = times[::-1] if backward else times
    return distance(run(solver, problem, times).y1, problem.exact(times[-1]))


@torch.no_grad()
def _inner_error(solver: Solver, problem: Problem, steps: int) -> float:
    errors, seen = list[float](), 0

    def visit(t0: Time, t1: Time, y0: State, step: Step) -> None:
        nonlocal seen
        seen += 1
        if (steps - seen) % math.ceil(steps / LOOKS):
            return
        coefficients = solver.dense(problem.term.over(t0, t1), t0, t1, y0, step)
        start, length = as_float(t0), as_float(t1 - t0)
        errors.extend(distance(horner(coefficients, x), problem.exact(start + x * length)) for x in INSIDE)

    stepped(solver, problem.term, problem.y0, even_grid(problem, steps), visit)
    return max(errors)


@torch.no_grad()
def _one_step(solver: Solver, n: int) -> tuple[float, float]:
    """The error estimate of a step from `t0`, 1/n of the problem long, and its true error.

    Methods that remember earlier steps have made as many as they remember.
    """
    problem = problem_for(solver.info)
    if denoises(solver.info):  # in much noise errors of low orders cancel
        problem = replace(problem, t0=problem.at(SEEN))
    h, past = (problem.t1 - problem.t0) / n, solver.info.steps - 1
    grid = [problem.t0 + i * h for i in range(-past, 2)]
    step = stepped(solver, problem.term, problem.exact(grid[0]), grid)
    if step.error is None:
        return math.nan, math.nan
    return distance(step.error, each(torch.zeros_like, step.y)), distance(step.y, problem.exact(grid[-1]))
