"""Station: the clock. The only loops over time in the repository: one over fixed grids, one with measured steps."""

from ..controllers import AdaptiveSteps
from ..problem import Path, Problem
from ._given import Given
from .fixed import Fixed, walk
from .measured import Measured

__all__ = ["integrate", "walk"]


def integrate(problem: Problem) -> Path:
    """Integrate the problem from the first of its times to the last.

    Raises:
        MaxSteps: if that takes more than `max_steps` steps.
        NoConvergence: if the inner iteration of a step does not end.
        NonFinite: if the state or the field becomes NaN or infinite.
        StepUnderflow: if the tolerance asks for steps that time cannot resolve.
    """
    if isinstance(problem.controller, AdaptiveSteps):
        return Measured(problem, problem.controller).run()
    return Measured(problem, Given()).run() if problem.own_clocks else Fixed(problem).run()
