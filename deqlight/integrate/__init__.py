"""Station: the clock. The only loops over time in the repository: one over fixed grids, one with measured steps."""

from dataclasses import replace

from ..controllers import AdaptiveSteps
from ..problem import Path, Problem
from ._given import Given
from .fixed import Fixed, walk
from .joint import Joint
from .looped import Looped, can_be_looped
from .measured import Measured
from .moves import Move, Opening, Replay, Took, Watch
from .relay import Relay
from .stepper import check_compilable
from .suited import check_continuous, check_events

__all__ = [
    "Move",
    "Opening",
    "Replay",
    "Took",
    "Watch",
    "check_compilable",
    "check_continuous",
    "check_events",
    "integrate",
    "walk",
]


def integrate(problem: Problem, watch: Watch | None = None) -> Path:
    """Integrate the problem from the first of its times to the last; `watch` looks on, or a lookout for its events.

    Raises:
        MaxSteps: if that takes more than `max_steps` steps.
        NoConvergence: if the inner iteration of a step does not end.
        NonFinite: if the state or the field becomes NaN or infinite.
        StepUnderflow: if the tolerance asks for steps that time cannot resolve.
    """
    if problem.events and watch is None:
        return Relay(problem, _driven).run()
    return _driven(problem, watch)


def _driven(problem: Problem, watch: Watch | None) -> Path:
    controller = problem.controller
    if isinstance(controller, AdaptiveSteps):
        if problem.compile is not None and can_be_looped(problem, watch is not None):
            looped = Looped(problem, controller, problem.compile.chunk)
            path = looped.run()
            if path is not None:
                return path
            if not looped.traced:  # it failed: the eager loop says where and why
                problem = replace(problem, compile=None)
        return (Joint if controller.joint else Measured)(problem, controller, watch).run()
    return Measured(problem, Given(), watch).run() if problem.own_clocks else Fixed(problem, watch).run()
