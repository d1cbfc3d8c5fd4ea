"""Station: the measuring bench, its instruments. Field evaluations, counted from outside the solver."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from ..solvers import Inner, Solver, Step
from ..states import leaves
from ..types import FieldFn, State, Time
from .networks import network
from .problems import problem_for
from .stiff import stiffening
from .trial import even_grid, run, stepped

__all__ = ["Iterations", "counted_evaluations", "counted_iterations", "counted_over_layers", "unconverged_error"]

STIFF_STEP = 0.1
"""Length of the step on which an iteration may fail: hλ runs from −0.1 to −10⁵."""


@dataclass
class Counter:
    """A hook that counts the calls of all fields, and the samples in them."""

    calls: int = 0
    rows: int = 0

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        """Call the field, count it."""
        self.calls += 1
        self.rows += leaves(y)[0].shape[0]
        return field(t, y)


@dataclass(frozen=True)
class Iterations:
    """What an iterative solver says of its iterations, and what was counted."""

    told: int
    """Evaluations that `Step.inner` tells of, summed over samples and steps."""
    counted: int
    """Samples in all calls of the field."""
    converged: bool
    """Whether all iterations are said to have converged."""


def counted_evaluations(solver: Solver, steps: int) -> int:
    """Field evaluations of a solve of so many steps on a smooth problem, start included."""
    problem, counter = problem_for(solver.info), Counter()
    run(solver, replace(problem, term=problem.term.wrap(counter)), even_grid(problem, steps))
    return counter.calls


@torch.no_grad()
def counted_over_layers(solver: Solver, layers: int) -> int:
    """Field evaluations of a network of so many layers, one step each."""
    (term, y0), counter = network(solver.info, layers), Counter()
    stepped(solver, term.wrap(counter), y0, [float(n) for n in range(layers + 1)])
    return counter.calls


@torch.no_grad()
def counted_iterations(solver: Solver, steps: int = 4) -> Iterations:
    """What `Step.inner` tells of so many steps on a smooth problem, and what a hook around the field counts.

    Raises:
        InputError: if a step says nothing of its iterations, or not sample by sample.
    """
    problem, counter, inners = problem_for(solver.info), Counter(), list[Inner]()
    term, grid = problem.term.wrap(counter), even_grid(problem, steps)
    solver.init(term, grid[0], grid[-1], problem.y0)
    at_start = counter.rows
    stepped(solver, term, problem.y0, grid, lambda t0, t1, y0, step: inners.append(_inner(step)))
    told = sum(int(inner.nfe.sum()) for inner in inners)
    converged = all(bool(inner.converged.all()) for inner in inners)
    return Iterations(told, counter.rows - 2 * at_start, converged)


@torch.no_grad()
def unconverged_error(solver: Solver) -> float:
    """The largest error, after one step, of samples that say they converged, on a problem too hard for some iterations.

    A converged step is near the solution, whatever the stiffness; an iteration that was left early is not.
    """
    problem = stiffening(solver.info)
    step = stepped(solver, problem.term, problem.y0, [0.0, STIFF_STEP])
    (y,), (exact,) = leaves(step.y), leaves(problem.exact(STIFF_STEP))
    errors = (y - exact).abs().amax(1)[_inner(step).converged]
    return float(errors.nan_to_num(nan=math.inf).max()) if len(errors) else 0.0


def _inner(step: Step) -> Inner:
    inner, batch = step.inner, leaves(step.y)[0].shape[:1]
    if inner is None:
        raise InputError(
            "info.nfe_step is None, for a solver that iterates, but Step.inner is None too; it needs an "
            "Inner(nfe, converged), each of shape (batch,)"
        )
    for name, tensor, dtype in (("nfe", inner.nfe, torch.int64), ("converged", inner.converged, torch.bool)):
        if tensor.shape != batch or tensor.dtype != dtype or tensor.device.type != "cpu":
            raise InputError(
                f"Step.inner.{name} is {tuple(tensor.shape)}, {tensor.dtype}, on {tensor.device}; it must be "
                f"{tuple(batch)}, {dtype}, on the CPU"
            )
    return inner
