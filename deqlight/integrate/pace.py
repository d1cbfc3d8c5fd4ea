"""Station: the clock, its rules. How it proposes a step and what it makes of the error, whatever its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..controllers import AdaptiveSteps, Numbers, arithmetic

__all__ = ["Pace", "Rules", "Trial"]

STRETCH = 1.01
"""A step that would end within a hundredth of its length before a stop is lengthened to land on it."""

UNDERFLOW = 10 * np.finfo(np.float64).eps
"""Smallest step relative to the time it starts from: below it, t + dt and t are the same number."""

NEAR_ZERO = 1e-18
"""Times below this, relative to the length of the solve, count as this: at zero any step would be long enough."""


class Pace(NamedTuple):
    """Where clocks stand, and how fast they go: floats for one clock, arrays or tensors `(clocks,)` for several."""

    t: Numbers
    dt: Numbers
    """Length of the next step."""
    last: Numbers
    """The error of the last step that was taken; 1 before there is one."""
    before: Numbers
    """That of the step before it."""


class Trial(NamedTuple):
    """One attempted step."""

    t: Numbers
    """Where it begins."""
    end: Numbers
    """Where it would end."""
    lands: Numbers
    """Whether that is the clock's next stop."""


@dataclass(frozen=True)
class Rules:
    """What does not change during a solve.

    Args:
        controller: what chooses the steps.
        order: the order of the solver's error estimate.
    """

    controller: AdaptiveSteps
    order: float

    @property
    def longest(self) -> float:
        """The longest step."""
        return float("inf") if self.controller.dtmax is None else self.controller.dtmax

    def propose(self, pace: Pace, goal: Numbers, sign: Numbers) -> Trial:
        """The next step, towards the next stop; one that nearly reaches it lands on it."""
        xp, way = arithmetic(pace.dt), abs(goal - pace.t)
        lands = (way <= pace.dt * STRETCH) & (way <= self.longest)
        return Trial(pace.t, xp.where(lands, goal, pace.t + sign * pace.dt), lands)

    def advance(self, pace: Pace, trial: Trial, error: Numbers, held: bool = False) -> tuple[Pace, Numbers]:
        """The clocks whose error is small enough go on, all next steps are chosen; says which went on.

        A step cut short to land keeps its length for later. If the step is `held`, clocks that might have gone on try
        the same step again.
        """
        xp, good = arithmetic(error), error <= 1
        accept = good & (not held)
        new = abs(trial.end - trial.t) * self.controller.factors(error, pace.last, pace.before, self.order)
        new = xp.where(accept & trial.lands & (new < pace.dt), pace.dt, new)
        new = xp.clip(new, self.controller.dtmin, self.longest)
        if held:
            new = xp.where(good, pace.dt, new)
        t, last = xp.where(accept, trial.end, trial.t), xp.where(accept, error, pace.last)
        return Pace(t, new, last, xp.where(accept, pace.last, pace.before)), accept

    def stuck(self, pace: Pace, trial: Trial, accept: Numbers, span: Numbers) -> Numbers:
        """The clocks that could not go on though they should: their next step is too short."""
        unresolved = (pace.dt < UNDERFLOW * abs(pace.t)) | (pace.dt < UNDERFLOW * NEAR_ZERO * span)
        shortest = abs(trial.end - trial.t) <= self.controller.dtmin * (1 + UNDERFLOW)
        return unresolved | ((accept == False) & shortest)  # noqa: E712  for every kind of numbers
