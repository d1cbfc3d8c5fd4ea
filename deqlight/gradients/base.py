"""Station: the way back. A gradient method wraps an integration so that autograd can go through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..controllers import Controller
from ..problem import Path, Problem
from ..solvers import Solver

__all__ = ["Gradient"]


class Gradient(ABC):
    """How the gradient of a solve is computed. Parameter gradients are returned through autograd, never written."""

    events: ClassVar[bool] = False
    """Whether it differentiates the events of a solve."""

    @abstractmethod
    def integrate(self, problem: Problem) -> Path:
        """Integrate the problem such that the result can be differentiated."""

    def check(self, solver: Solver, controller: Controller) -> None:  # noqa: B027  most methods accept all
        """Raise `InputError` if the method cannot work with this solver and controller."""
