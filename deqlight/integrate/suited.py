"""Station: the clock, before it starts. Whether events can be looked for in a solve."""

from __future__ import annotations

from ..controllers import AdaptiveSteps
from ..errors import InputError, ShapeError
from ..events import Event
from ..problem import Problem
from ..solvers import Solver
from ..states import leaves
from ..times import OwnTimes
from ..types import Tensor

__all__ = ["check_events"]


def check_events(problem: Problem) -> None:
    """Refuse events that cannot be looked for in the steps of a problem.

    Raises:
        InputError: what was given, what it needs, what would work.
    """
    for event in problem.events:
        if not isinstance(event, Event):
            raise InputError(f"events got {event!r}; it needs a list of Event(condition, …)")
        _check_data(problem, event)
    if not problem.events:
        return
    check_continuous(problem.solver)
    if not all(leaf.dim() for leaf in leaves(problem.y0)):
        raise InputError("events got a state without a batch axis; give it one: y0[None]")
    for event in problem.events:
        if event.effect is not None:
            _check_effect(problem, event)


def check_continuous(solver: Solver) -> None:
    """Refuse solvers that know nothing between the ends of their steps."""
    if solver.info.derivative != 1:
        raise InputError(
            f"events got the solver {solver!r}, which knows no velocities and hence nothing between the ends of its "
            "steps; use a solver of first order equations, such as Verlet or Dopri5"
        )


def _check_data(problem: Problem, event: Event) -> None:
    for tensor in event.data:
        if not isinstance(tensor, Tensor) or tensor.shape[:1] != (problem.batch,):
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ShapeError(
                f"event '{event.title}' got data of shape {got} for a batch of {problem.batch}; axis 0 is the batch"
            )


def _check_effect(problem: Problem, event: Event) -> None:
    """Samples start again at times of their own."""
    who, controller = (
        f"event '{event.title}' has an effect, behind which each sample goes on by itself",
        problem.controller,
    )
    if isinstance(controller, AdaptiveSteps) and controller.joint:
        raise InputError(f'{who}; that does not go with norm="joint": use norm="sample"')
    if problem.solver.info.uniform_steps:
        raise InputError(
            f"{who}; {problem.solver!r} needs steps of one length: use a solver that does not, such as RK4"
        )
    if not problem.term.continuous:
        raise InputError(
            f"{who}; the samples of a {type(problem.term).__name__} term must be in one layer at the same time"
        )
    if not isinstance(problem.ts, OwnTimes) and any(isinstance(t, Tensor) for t in problem.ts):
        raise InputError(f"{who}; ts needs a gradient, which that does not give: use ts.detach()")
