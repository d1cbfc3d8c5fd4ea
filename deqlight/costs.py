"""Station: what a solve is charged for. Costs are summed along a solve, sample by sample, and added to a loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from .errors import InputError
from .solvers import Solver, Step
from .terms import Term
from .terms.augmented import Rate
from .types import State, Tensor

__all__ = ["Cost", "RunningCost", "StepCost", "WeightCost"]


class Cost(ABC):
    """Something that a solve is charged for; a value that configs name, with the weight that it has in the loss."""

    weight: float

    @property
    def name(self) -> str:
        """What it is called in logs and in `Solution.costs`."""
        return type(self).__name__

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise InputError(f"{self.name} got weight={self.weight}; it must be at least 0")
        self.check()

    def check(self) -> None:  # noqa: B027  most have nothing to check
        """Raise `InputError` for options that make no sense."""


class RunningCost(Rate, Cost):
    """An integral along the solve, ∫ rate(t, y) dt, integrated with the state and outside the error norm.

    Goes with every solver for terms of any kind, and with every gradient rule.
    """


class StepCost(Cost):
    """A sum over the steps that were taken, of what the solver knows of each; differentiated by `Direct` alone."""

    @abstractmethod
    def suits(self, solver: Solver) -> None:
        """Raise `InputError` if the solver does not know what is charged for."""

    @abstractmethod
    def of(self, solver: Solver, y0: State, step: Step, lengths: Tensor) -> Tensor:
        """The charge of a step for each sample, `(batch,)`.

        Args:
            solver: the solver.
            y0: the state before the step.
            step: what the solver returned.
            lengths: the length of the step for each sample, `(batch,)`.
        """


class WeightCost(Cost):
    """A charge on the weights of a term, the same for all samples."""

    @abstractmethod
    def of(self, term: Term, ts: Sequence[float]) -> Tensor:
        """The charge, a 0-d tensor; raises `InputError` for terms that it makes no sense for."""
