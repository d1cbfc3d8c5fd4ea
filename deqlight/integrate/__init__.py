"""Station: the clock. The only loops over time in the repository: one over fixed grids, one with measured steps."""

from ..controllers import AdaptiveSteps
from ..problem import Path, Problem
from ._given import Given
from .fixed import Fixed, walk
from .measured import Measured
from .moves import Move, Opening, Replay, Took, Watch

__all__ = ["Move", "Opening", "Replay", "Took", "Watch", "integrate", "walk"]


def integrate(problem: Problem, watch: Watch | None = None) -> Path:
    """Integrate the problem from the first of its times to the last; `watch` looks on.

    Raises:
        MaxSteps: if that takes more than `max_steps` steps.
        NoConvergence: if the inner iteration of a step does not end.
        NonFinite: if the state or the field becomes NaN or infinite.
        StepUnderflow: if the tolerance asks for steps that time cannot resolve.
    """
    if isinstance(problem.controller, AdaptiveSteps):
        return Measured(problem, problem.controller, watch).run()
    return Measured(problem, Given(), watch).run() if problem.own_clocks else Fixed(problem, watch).run()
