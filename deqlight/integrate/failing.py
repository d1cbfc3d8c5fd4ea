"""Station: the clock, when it cannot go on. Why, and what to try."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import MaxSteps, NoConvergence, NonFinite, SolverFailure, StepUnderflow
from ..solvers import Solver
from ..times import Array
from .stops import Bools

__all__ = ["HINT_INNER", "HINT_NAN", "Cause", "Limits", "causes", "stiffness_hint"]

HINT_NAN = (
    "Look at the field at that time for those samples: a division, a logarithm, weights that diverged, a step too long."
)
HINT_STIFF = (
    "Raise max_steps or loosen the tolerance; if steps are tiny for no visible reason, the field is stiff: use a "
    "solver for stiff fields (Kvaerno5, RadauIIA5, Rodas4)."
)
HINT_STEPS = "Raise max_steps, or loosen the tolerance."
HINT_JUMP = "Loosen the tolerance, look for a jump or a pole of the field near that time, or use float64."
HINT_INNER = (
    "Take shorter steps, loosen the tolerance, or use an explicit solver if the field is not stiff; in a network, use "
    "blocks whose Jacobian has no large positive eigenvalues, such as Antisymmetric."
)


def stiffness_hint(solver: Solver) -> str:
    """What to try where steps do not suffice."""
    return HINT_STEPS if solver.info.stability == float("inf") else HINT_STIFF


class Cause(NamedTuple):
    """Why some clocks cannot go on."""

    clocks: Bools
    kind: type[SolverFailure]
    what: str
    hint: str


class Limits(NamedTuple):
    """What a solve is allowed."""

    dtmin: float
    """The shortest step."""
    max_steps: int
    """Most steps of a clock."""
    hint: str
    """What to say where those do not suffice."""


def causes(stuck: Bools, spent: Bools, converged: Bools, errors: Array, field: str, limits: Limits) -> list[Cause]:
    """What holds up the clocks that are stuck, or have spent their steps.

    Args:
        stuck: clocks whose next step is too short, `(clocks,)`.
        spent: those that have no more steps.
        converged: those whose inner iterations ended well.
        errors: the errors of the last step.
        field: names what may be to blame.
        limits: what they are allowed.
    """
    finite = np.isfinite(errors)
    short = f"the tolerance needs steps shorter than dtmin = {limits.dtmin:g}"
    found = [
        Cause(
            stuck & ~converged,
            NoConvergence,
            "the inner iteration did not converge, however short the step",
            HINT_INNER,
        ),
        Cause(stuck & converged & ~finite, NonFinite, f"the {field} or the state became NaN or infinite", HINT_NAN),
        Cause(
            stuck & converged & finite,
            StepUnderflow,
            short if limits.dtmin > 0 else "the step became too small for time to resolve",
            HINT_JUMP,
        ),
        Cause(spent & ~stuck, MaxSteps, f"{limits.max_steps} steps did not reach the end", limits.hint),
    ]
    return [cause for cause in found if cause.clocks.any()]
