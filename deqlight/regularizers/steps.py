"""Station: what a network is charged for that its solver knows: errors and stiffness, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import cast

import torch

from ..costs import StepCost
from ..errors import InputError
from ..solvers import ExplicitRungeKutta, Solver, Step
from ..states import leaves
from ..types import State, Tensor

__all__ = ["ErrorEstimate", "Stiffness"]


@dataclass(frozen=True)
class ErrorEstimate(StepCost):
    """The local errors Σ |h| ‖e‖ over the steps taken, e being the solver's own estimate: dynamics easy to solve.

    Args:
        weight: its weight in the loss.

    Raises:
        InputError: from a solve, for solvers without an estimate.

    Reference: Pal, Ma, Shah & Rackauckas, Opening the Blackbox: Accelerating Neural Differential Equations by
    Regularizing Internal Solver Heuristics, ICML 2021 (arXiv 2105.03918).
    """

    weight: float = 0.01

    def suits(self, solver: Solver) -> None:
        """Refuse solvers without an estimate."""
        if solver.info.error_order is None:
            raise InputError(
                f"ErrorEstimate got the solver {type(solver).__name__}, which estimates no error; use one that does, "
                "such as Dopri5, Tsit5 or StepDoubling(…)"
            )

    def of(self, solver: Solver, y0: State, step: Step, lengths: Tensor) -> Tensor:
        """|h| ‖e‖ of each sample."""
        return lengths * _size(cast(State, step.error), y0)


@dataclass(frozen=True)
class Stiffness(StepCost):
    """The stiffness estimates Σ ‖k_a − k_b‖/‖u_a − u_b‖ over the steps taken, of two stages a, b at one time.

    The quotient is a lower bound of the field's Lipschitz constant along the way.

    Args:
        weight: its weight in the loss.

    Raises:
        InputError: from a solve, for solvers without two stages at one time: `Dopri5`, `Tsit5` and `RK4` have some.

    Reference: Pal, Ma, Shah & Rackauckas, ICML 2021 (arXiv 2105.03918); Hairer & Wanner, Solving Ordinary Differential
    Equations II, §IV.2.
    """

    weight: float = 0.01

    def suits(self, solver: Solver) -> None:
        """Refuse solvers without two stages at one time."""
        if not isinstance(solver, ExplicitRungeKutta) or _pair(solver) is None:
            raise InputError(
                f"Stiffness got the solver {type(solver).__name__}, which has no two stages at one time; use an "
                "explicit Runge–Kutta method that does, such as Dopri5, Tsit5 or RK4"
            )

    def of(self, solver: Solver, y0: State, step: Step, lengths: Tensor) -> Tensor:
        """‖k_a − k_b‖/‖u_a − u_b‖ of each sample; 0 where both stages are one."""
        method = cast(ExplicitRungeKutta, solver)
        first, second = cast("tuple[int, int]", _pair(method))
        rows = [(*method.tableau.a[i], *[0.0] * (len(step.slopes) - i)) for i in (first, second)]
        weights = [a - b for a, b in zip(*rows, strict=True)]
        parts = []
        for n in range(len(leaves(y0))):
            slopes = [leaves(slope)[n] for slope in step.slopes]
            apart = sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(slopes[0]))
            parts.append((slopes[first] - slopes[second], apart))
        rise, run = (_size(tuple(side), y0) for side in zip(*parts, strict=True))
        run = lengths * run
        return torch.where(run > 0, rise / torch.where(run > 0, run, 1.0), 0.0)


def _pair(solver: ExplicitRungeKutta) -> tuple[int, int] | None:
    """The last two stages at one time."""
    nodes = solver.tableau.c
    found = [pair for pair in combinations(range(len(nodes)), 2) if nodes[pair[0]] == nodes[pair[1]]]
    return found[-1] if found else None


def _size(y: State, like: State) -> Tensor:
    """The Euclidean norm of each sample's numbers, `(batch,)`, of as many leaves as the state has."""
    parts = [leaf.flatten(1) for leaf in leaves(y)[: len(leaves(like))]]
    return cast(Tensor, torch.linalg.vector_norm(torch.cat(parts, 1), dim=1))
