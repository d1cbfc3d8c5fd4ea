"""Station: the front door. Everything is checked here, once; then the gradient method takes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .brownian import Grid
from .charging import Bill
from .compiling import Compile, untraced
from .controllers import AdaptiveSteps, Constant, Controller, FixedSteps
from .costs import Cost
from .errors import InputError, ShapeError
from .events import Event
from .gradients import Direct, Gradient
from .gradients.base import NO_GRAPH, goes_its_own_way_back
from .integrate import check_compilable, check_continuous, check_events
from .policies import Policy, Raise
from .problem import Path, Problem
from .saveat import SaveAt
from .solution import Solution, report
from .solvers import Solver
from .states import as_float, batch_size, leaves
from .terms import ReverseSDE, Stochastic, Term
from .terms.guard import Guard
from .terms.suited import check_noise
from .times import Asked, OwnTimes, read_times
from .types import State, Tensor, Time

__all__ = ["check_compatible", "solve"]

ON_THE_GRID = Constant(steps=1)
"""What no controller means: one step from each time to the next."""

UNIFORM = 1e-6
"""How much steps may differ, relatively, for a method that needs them equal (grids are sums of floats)."""


@untraced(NO_GRAPH, goes_its_own_way_back)
def solve(
    term: Term,
    y0: State,
    ts: Asked,
    *,
    solver: Solver,
    controller: Controller | None = None,
    gradient: Gradient = Direct(),  # noqa: B008  a frozen value
    saveat: SaveAt | None = None,
    max_steps: int = 4096,
    on_failure: Policy = Raise(),  # noqa: B008  a frozen value
    events: Sequence[Event] = (),
    costs: Sequence[Cost] = (),
    compile: Compile | None = None,  # noqa: A002  as torch names it
) -> Solution:
    """Integrate `term` from `y0` at `ts[0]` and return the states at `ts`.

    Args:
        term: the right-hand side: `ODETerm`, `Layered`, `Partitioned`, …
        y0: the state at `ts[0]`: a floating-point tensor `(batch, *state)`, or a flat tuple of such tensors.
        ts: output times `(time,)`, at least two, strictly increasing, or strictly decreasing to integrate back in time.
            A tensor `(time, batch)` gives each sample its own; a list of one list a sample as many as it likes.
        solver: the integrator.
        controller: None steps exactly on `ts` (a depth grid); `Constant` takes equal steps, `PID` measured ones.
        gradient: how autograd goes through the solve.
        saveat: which states to keep; None keeps those at all of `ts`.
        max_steps: most steps a sample may take, tried ones included.
        on_failure: what becomes of samples that fail, and of the others: `Raise`, `Freeze`, `Fallback(solver)`.
        compile: run the steps as compiled graphs; None runs them eagerly.
        costs: what to charge for, sample by sample; those of weight 0 are left out. The solution is that without.
        events: what to look for on the way; behind a terminal event a sample's states are NaN.

    Returns:
        The solution: `.ts` `(time,)`, `.ys` `(time, batch, *state)`, `.stats`, `.events`.

    Raises:
        InputError: if the arguments cannot be right, or do not go together.
        CompileFailure: if steps that shall be cannot be compiled.
        SolverFailure: `NonFinite`, `MaxSteps`, `StepUnderflow` or `NoConvergence`, with its place.

    >>> from deqlight import ODETerm
    >>> from deqlight.solvers import RK4
    >>> solution = solve(ODETerm(lambda t, y: -y), torch.ones(2, 1), [0.0, 0.5, 1.0], solver=RK4())
    >>> solution.ys.shape, round(float(solution.y1[0]), 3)
    (torch.Size([3, 2, 1]), 0.368)
    """
    steps = check_compatible(term, solver, controller, gradient)
    for other, pace in on_failure.seconds():
        check_compatible(term, other, pace or steps, gradient)
    _check_state(y0)
    times = read_times(ts, batch_size(y0))
    problem = _sized(Problem(term, solver, y0, times, steps, saveat or SaveAt(), _positive(max_steps), compile=compile))
    if events:
        problem = _eventful(problem, events, gradient, [other for other, _ in on_failure.seconds()])
    _check_direction(problem)
    bill = Bill(costs, problem, gradient, on_failure)
    problem = _drawn(bill.charged(), [other for other, _ in on_failure.seconds()])
    path = on_failure.run(problem, lambda attempt: bill.integrate(gradient, _guarded(attempt)))
    return _solution(problem, bill.settled(path), ts)


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
    if isinstance(term, Stochastic):
        _check_noise(term, solver)
    _check_iterative(term, solver)
    if isinstance(steps, AdaptiveSteps):
        _check_adaptive(term, solver, steps)
    gradient.check(solver, steps)
    return steps


def _check_adaptive(term: Term, solver: Solver, controller: AdaptiveSteps) -> None:
    name, pace = type(solver).__name__, type(controller).__name__
    if solver.info.error_order is None or solver.info.uniform_steps:
        raise InputError(
            f"{pace} got the solver {name}, which has no error estimate to choose steps by; use a solver with one "
            f"(Dopri5, Heun), wrap it, StepDoubling({name}()), or give it fixed steps: Constant(steps=…) or "
            "Constant(dt=…)"
        )
    if isinstance(term, Stochastic) and solver.info.strong_order[term.noise] < 1:
        raise InputError(
            f"{pace} got the solver {name}, of strong order {solver.info.strong_order[term.noise]:g} for {term.noise} "
            "noise: with steps chosen by the noise itself, methods below strong order 1 converge to another equation "
            "(Gaines & Lyons 1997); use one of order 1, such as StepDoubling(Milstein()) or Heun, or fixed steps"
        )
    if controller.joint:
        return
    if not term.continuous:
        raise InputError(
            f"{pace} with a clock for each sample got the term {type(term).__name__}, whose samples must be in one "
            'layer at the same time; use norm="joint", or fixed steps'
        )
    if _mixes_samples(term):
        raise InputError(
            f"{pace} with a clock for each sample got a field with BatchNorm in training mode, which mixes samples; "
            'use GroupNorm or another norm of single samples, or norm="joint"'
        )


def _check_noise(term: Stochastic, solver: Solver) -> None:
    """Itô's and Stratonovich's equations are not mixed, but where both are one."""
    info, name = solver.info, type(solver).__name__
    if ReverseSDE in info.terms:  # made for this one term, whose noise is additive
        return
    if info.calculus is None:
        raise InputError(
            f"{name} got a stochastic term ({type(term).__name__}); it integrates ordinary equations alone: use Euler "
            "or Milstein for Itô's calculus, Heun or Midpoint for Stratonovich's"
        )
    if term.noise not in info.strong_order:
        raise InputError(f"{name} got {term.noise} noise; it integrates {', '.join(info.strong_order)} noise")
    if term.calculus != info.calculus and term.noise != "additive":
        raise InputError(
            f"{name} solves equations in the sense of {info.calculus}, and the term {type(term).__name__} is meant in "
            f"that of {term.calculus}, which is another equation; use a solver for {term.calculus}, or convert the "
            "term, which adds the correction to its drift: Converted(term)"
        )


def _check_direction(problem: Problem) -> None:
    """Itô's equations are not the same backwards; Stratonovich's are."""
    term = problem.term
    if isinstance(term, Stochastic) and term.calculus == "ito" and term.noise != "additive" and (problem.way < 0).any():
        raise InputError(
            f"ts run back in time, and {type(term).__name__} is meant in Itô's sense, in which steps back in time "
            "solve another equation; use Stratonovich's calculus: Converted(term) and a solver for it"
        )


def _check_iterative(term: Term, solver: Solver) -> None:
    if solver.info.nfe_step is None and _mixes_samples(term):
        raise InputError(
            f"{type(solver).__name__} solves equations sample by sample, and the field has BatchNorm in training mode, "
            "which mixes samples; use GroupNorm2d or another norm of single samples, or an explicit solver"
        )


def _mixes_samples(term: Term) -> bool:
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in term.modules())


def _check_state(y0: State) -> None:
    parts = leaves(y0)
    if not parts or not all(isinstance(leaf, Tensor) for leaf in parts):
        raise ShapeError(f"solve got a state of type {type(y0).__name__}; it needs a tensor or a flat tuple of tensors")
    if not all(leaf.is_floating_point() for leaf in parts):
        raise ShapeError(
            f"solve got a state of dtype {[leaf.dtype for leaf in parts]}; it needs a floating-point dtype"
        )
    if any(leaf.shape[:1] != parts[0].shape[:1] for leaf in parts):  # a set of sizes would fix them in a graph
        shapes = [tuple(leaf.shape) for leaf in parts]
        raise ShapeError(
            f"solve got a state with leaves of shapes {shapes}; axis 0 of every leaf is the batch, and must agree"
        )


def _sized(problem: Problem) -> Problem:
    """The problem, once its parts are known to fit, with tolerances that the dtype resolves and a solver paced so."""
    controller, own = problem.controller, isinstance(problem.ts, OwnTimes)
    if own:
        _check_own(problem)
    if isinstance(controller, FixedSteps):
        controller.check(problem.span)
        if problem.solver.info.uniform_steps:
            _check_uniform(problem)
        return problem
    if not own and any(isinstance(t, Tensor) for t in cast("tuple[Time, ...]", problem.ts)):
        raise InputError("ts needs a gradient, which measured steps do not give; use Constant(…), or ts.detach()")
    if not controller.joint and not all(leaf.dim() for leaf in leaves(problem.y0)):
        raise InputError('PID with a clock for each sample got a state without a batch axis; use norm="joint"')
    if not controller.joint:
        _check_tolerance(controller, problem.y0)
    return problem.paced()


def _check_own(problem: Problem) -> None:
    if isinstance(problem.controller, AdaptiveSteps) and problem.controller.joint:
        raise InputError('ts of each sample go with a clock for each sample, not with norm="joint"; use norm="sample"')
    if not problem.term.continuous:
        raise InputError(
            f"ts of each sample got the term {type(problem.term).__name__}, whose samples must be in one layer at the "
            "same time; give ts (time,) for all"
        )
    if not all(leaf.dim() for leaf in leaves(problem.y0)):
        raise InputError("ts of each sample got a state without a batch axis; give ts (time,)")


def _check_tolerance(controller: AdaptiveSteps, y0: State) -> None:
    atol = controller.atol
    if not isinstance(atol, Tensor):
        return
    for leaf in leaves(y0):
        sample = tuple(leaf.shape[1:])
        pairs = zip(reversed(atol.shape), reversed(sample), strict=False)
        if atol.dim() > len(sample) or any(a not in (1, n) for a, n in pairs):
            raise InputError(
                f"PID got atol of shape {tuple(atol.shape)} for samples of shape {sample}; with a clock "
                "for each sample it must broadcast against one sample"
            )


def _check_uniform(problem: Problem) -> None:
    grids = [[as_float(t) for t in problem.controller.grid(ts)[0]] for ts in problem.lists()]  # type: ignore[union-attr]
    for grid in grids:
        steps = [t1 - t0 for t0, t1 in pairwise(grid)]
        shortest, longest = min(steps, key=abs), max(steps, key=abs)
        if abs(longest - shortest) > UNIFORM * abs(longest):
            raise InputError(
                f"{type(problem.solver).__name__} needs steps of one length; these times give {shortest:g} to "
                f"{longest:g}: use equally spaced ts, or a method for unequal steps (AB2, Heun, RK4)"
            )


def _drawn(problem: Problem, others: Sequence[Solver]) -> Problem:
    """The problem with what its term draws once per solve."""
    area = max(solver.info.area for solver in (problem.solver, *others))
    fixed = isinstance(problem.controller, FixedSteps) and not problem.own_clocks
    fixed = fixed and not isinstance(problem.ts, OwnTimes)

    def read() -> list[float]:
        if fixed:
            return [as_float(t) for t in problem.grid()[0]]
        return [t for own in problem.lists() for t in (own[0], own[-1])]

    grid = Grid(read, fixed)
    drawn = problem.term.drawn(problem.y0, grid, area)
    if drawn is problem.term:  # nothing to draw; or it comes with its path, and is taken at its word
        return problem
    relied = any("general" not in solver.info.strong_order for solver in (problem.solver, *others))
    check_noise(problem.term, drawn, problem.y0, grid, relied)
    return replace(problem, term=drawn)


def _guarded(problem: Problem) -> Problem:
    """The problem with fields that stay one function each, whatever layers they have."""
    if problem.compile is not None:  # a graph of a step has a guard of its own
        check_compilable(problem.term, problem.solver)
        return problem
    apart = problem.own_clocks or problem.solver.info.nfe_step is None
    return replace(problem, term=problem.term.wrap(Guard(apart)))


def _eventful(problem: Problem, events: Sequence[Event], gradient: Gradient, others: Sequence[Solver]) -> Problem:
    """The problem with its events, once these are known to go with the solver and the gradient."""
    problem = replace(problem, events=tuple(events))
    check_events(problem)
    if not gradient.events:
        raise InputError(f"events got the gradient {type(gradient).__name__}, which knows nothing of them; use Direct")
    for solver in others:
        check_continuous(solver)
    return problem


def _positive(max_steps: int) -> int:
    if max_steps < 1:
        raise InputError(f"solve got max_steps={max_steps}; it must be at least 1")
    return max_steps


def _solution(problem: Problem, path: Path, ts: Asked) -> Solution:
    """What was asked for, from what the integration left; it is on record."""
    report(path.stats)
    times, offsets = problem.ts, None
    if isinstance(times, OwnTimes):
        values = torch.as_tensor(times.values if times.ragged else times.table().copy())
        if problem.saveat.final:
            values = torch.as_tensor(problem.host_ends[1])[None]
        elif times.ragged:
            offsets = torch.as_tensor(times.offsets)
    else:
        values = ts if isinstance(ts, Tensor) else torch.tensor([as_float(t) for t in times], dtype=torch.float64)
        values = values[-1:] if problem.saveat.final else values
    return Solution(values, path.ys, path.stats, offsets, path.failures, path.dense, path.events)
