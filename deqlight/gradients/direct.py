"""Station: the way back, through the steps themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..integrate import integrate
from ..problem import Path, Problem
from .base import Gradient

__all__ = ["Direct"]


@dataclass(frozen=True)
class Direct(Gradient):
    """Backpropagation through the solver's steps: exact for the discrete solution, memory grows with the steps.

    Differentiable any number of times; no further field evaluations on the way back. Step sizes chosen by a
    controller count as constants.
    """

    events: ClassVar[bool] = True
    traced: ClassVar[bool] = True

    def integrate(self, problem: Problem) -> Path:
        """Integrate with autograd watching."""
        return integrate(problem)
