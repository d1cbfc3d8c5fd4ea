"""Station: the integrator. What all implicit methods share, and the diagonally implicit ones of one or two stages."""

from __future__ import annotations

import copy

from ..rootfind import Newton
from ..types import Tensor
from .base import Solver

__all__ = ["ImplicitSolver"]


class ImplicitSolver(Solver):
    """A method that solves equations for its stages, sample by sample, by Newton's method.

    Gradients are those of the implicit function theorem at the stages: exact, and first derivatives alone.

    Args:
        dense: most unknowns (numbers of a sample times stages that are coupled) whose equations are factorised; above,
            they are solved by GMRES, without a Jacobian.
        max_iterations: most iterations for one stage, or for all that are coupled.

    Raises:
        InputError: for a negative `dense`, or no iterations.
    """

    def __init__(self, dense: int = 64, max_iterations: int = 50) -> None:
        self.newton = Newton(dense, max_iterations)

    def within(self, rtol: float, atol: float | Tensor) -> Solver:
        """A copy that stops iterating well within these tolerances, rather than at rounding."""
        own = copy.copy(self)
        own.newton = self.newton.within(rtol, atol)
        return own
