"""Station: the front door. Everything is checked here, once; then the gradient method takes over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .controllers import AdaptiveSteps, Constant, Controller, FixedSteps
from .errors import InputError, ShapeError
from .gradients import Direct, Gradient
from .integrate import Problem
from .saveat import SaveAt
from .solution import Solution, report
from .solvers import Solver
from .states import as_float, leaves
from .terms import Term
from .types import State, Tensor, Time

__all__ = ["check_compatible", "solve"]

ON_THE_GRID = Constant(steps=1)
"""What no controller means: one step from each time to the next."""

UNIFORM = 1e-6
"""How much steps may differ, relatively, for a method that needs them equal (grids are sums of floats)."""


def solve(
    term: Term,
    y0: State,
    ts: Sequence[float] | Tensor,
    *,
    solver: Solver,
    controller: Controller | None = None,
    gradient: Gradient = Direct(),  # noqa: B008  a frozen value
    saveat: SaveAt | None = None,
    max_steps: int = 4096,
) -> Solution:
    """Integrate `term` from `y0` at `ts[0]` and return the states at `ts`.

    Args:
        term: the right-hand side: `ODETerm`, `Layered`, `Partitioned`, …
        y0: the state at `ts[0]`: a floating-point tensor `(batch, *state)`, or a flat tuple of such tensors.
        ts: output times `(time,)`, at least two, strictly increasing, or strictly decreasing to integrate back in time.
        solver: the integrator.
        controller: None steps exactly on `ts` (a depth grid); `Constant` takes equal steps, `PID` measured ones.
        gradient: how autograd goes through the solve.
        saveat: which states to keep; None keeps those at all of `ts`.
        max_steps: most steps a sample may take, tried ones included.

    Returns:
        The solution: `.ts` `(time,)`, `.ys` `(time, batch, *state)`, `.stats`.

    Raises:
        InputError: if the arguments cannot be right, or do not go together.
        SolverFailure: `NonFinite`, `MaxSteps` or `StepUnderflow`, if the solve cannot be finished; it says where.

    >>> from deqlight import ODETerm
    >>> from deqlight.solvers import RK4
    >>> solution = solve(ODETerm(lambda t, y: -y), torch.ones(2, 1), [0.0, 0.5, 1.0], solver=RK4())
    >>> solution.ys.shape
    torch.Size([3, 2, 1])
    >>> round(float(solution.y1[0]), 3)
    0.368
    """
    steps = check_compatible(term, solver, controller, gradient)
    _check_state(y0)
    times = _times(ts)
    saveat = saveat or SaveAt()
    problem = Problem(term, solver, y0, times, _sized(steps, solver, times, y0), saveat, _positive(max_steps))
    path = gradient.integrate(problem)
    report(path.stats)
    return Solution(_kept_times(ts, saveat), path.ys, path.stats)


def check_compatible(
    term: Term, solver: Solver, controller: Controller | None, gradient: Gradient
) -> FixedSteps | AdaptiveSteps:
    """Whether the four go together; returns the controller, that of the plain grid for None.

    Raises:
        InputError: what was given, what it needs, what would work.
    """
    for value, kind, example in (
        (term, Term, "ODETerm(field)"),
        (solver, Solver, "Heun()"),
        (gradient, Gradient, "Direct()"),
    ):
        if not isinstance(value, kind):
            raise InputError(
                f"solve got {value!r} as its {kind.__name__.lower()}; it needs a {kind.__name__}, such as {example}"
            )
    steps = ON_THE_GRID if controller is None else controller
    if not isinstance(steps, FixedSteps | AdaptiveSteps):
        raise InputError(f"solve got {steps!r} as its controller; it needs Constant(…), PID(…) or None")
    name = type(solver).__name__
    if not isinstance(term, solver.info.terms):
        needs = " or ".join(kind.__name__ for kind in solver.info.terms)
        raise InputError(f"{name} got the term {type(term).__name__}; it integrates {needs}")
    if isinstance(steps, AdaptiveSteps):
        _check_adaptive(term, solver, steps)
    gradient.check(solver, steps)
    return steps


def _check_adaptive(term: Term, solver: Solver, controller: AdaptiveSteps) -> None:
    name, pace = type(solver).__name__, type(controller).__name__
    if solver.info.error_order is None or solver.info.uniform_steps:
        raise InputError(
            f"{pace} got the solver {name}, which has no error estimate to choose steps by; use a solver with one "
            f"(Dopri5, Heun), or give {name} fixed steps: Constant(steps=…) or Constant(dt=…)"
        )
    if controller.joint:
        return
    if not term.continuous:
        raise InputError(
            f"{pace} with a clock for each sample got the term {type(term).__name__}, whose samples must be in one "
            'layer at the same time; use norm="joint", or fixed steps'
        )
    if any(isinstance(layer, _BatchNorm) and layer.training for layer in term.modules()):
        raise InputError(
            f"{pace} with a clock for each sample got a field with BatchNorm in training mode, which mixes samples; "
            'use GroupNorm or another norm of single samples, or norm="joint"'
        )


def _check_state(y0: State) -> None:
    parts = leaves(y0)
    if not parts or not all(isinstance(leaf, Tensor) for leaf in parts):
        raise ShapeError(f"solve got a state of type {type(y0).__name__}; it needs a tensor or a flat tuple of tensors")
    if not all(leaf.is_floating_point() for leaf in parts):
        raise ShapeError(
            f"solve got a state of dtype {[leaf.dtype for leaf in parts]}; it needs a floating-point dtype"
        )
    if len({leaf.shape[:1] for leaf in parts}) > 1:
        shapes = [tuple(leaf.shape) for leaf in parts]
        raise ShapeError(
            f"solve got a state with leaves of shapes {shapes}; axis 0 of every leaf is the batch, and must agree"
        )


def _times(ts: Sequence[float] | Tensor) -> tuple[Time, ...]:
    """The times as Python floats, or as tensors where they need a gradient."""
    if isinstance(ts, Tensor) and (ts.dim() != 1 or not ts.is_floating_point()):
        raise InputError(
            f"ts got a tensor of shape {tuple(ts.shape)} and dtype {ts.dtype}; it needs floats of shape (time,)"
        )
    values = ts.tolist() if isinstance(ts, Tensor) else [float(t) for t in ts]
    if len(values) < 2:
        raise InputError(f"ts got {len(values)} times; it needs at least two, the start and the end")
    forward = values[1] > values[0]
    for i, (t0, t1) in enumerate(pairwise(values)):
        if not (math.isfinite(t0) and math.isfinite(t1) and (t1 > t0 if forward else t1 < t0)):
            raise InputError(
                f"ts got {t0:g} at index {i} and {t1:g} at index {i + 1}; times must be finite and strictly increasing "
                "(or strictly decreasing throughout, to integrate back in time)"
            )
    return tuple(ts.unbind()) if isinstance(ts, Tensor) and ts.requires_grad else tuple(values)


def _sized(
    controller: FixedSteps | AdaptiveSteps, solver: Solver, times: tuple[Time, ...], y0: State
) -> FixedSteps | AdaptiveSteps:
    """The controller, once it is known to fit these times and this state."""
    if isinstance(controller, FixedSteps):
        if solver.info.uniform_steps:
            _check_uniform(controller, solver, times)
        return controller
    if any(isinstance(t, Tensor) for t in times):
        raise InputError("ts needs a gradient, which measured steps do not give; use Constant(…), or ts.detach()")
    if not controller.joint and not all(leaf.dim() for leaf in leaves(y0)):
        raise InputError('PID with a clock for each sample got a state without a batch axis; use norm="joint"')
    return controller.within(leaves(y0)[0].dtype)


def _check_uniform(controller: FixedSteps, solver: Solver, times: tuple[Time, ...]) -> None:
    grid = [as_float(t) for t in controller.grid(times)[0]]
    steps = [t1 - t0 for t0, t1 in pairwise(grid)]
    shortest, longest = min(steps, key=abs), max(steps, key=abs)
    if abs(longest - shortest) > UNIFORM * abs(longest):
        raise InputError(
            f"{type(solver).__name__} needs steps of one length; these times give {shortest:g} to {longest:g}: "
            "use equally spaced ts, or a method for unequal steps (AB2, Heun, RK4)"
        )


def _positive(max_steps: int) -> int:
    if max_steps < 1:
        raise InputError(f"solve got max_steps={max_steps}; it must be at least 1")
    return max_steps


def _kept_times(ts: Sequence[float] | Tensor, saveat: SaveAt) -> Tensor:
    times = ts if isinstance(ts, Tensor) else torch.tensor([float(t) for t in ts], dtype=torch.float64)
    return times[-1:] if saveat.final else times
