"""Station: the integrator. Backward differentiation: the slope at the end is that of a polynomial through the past."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import torch

from ..states import combine
from ..terms import Term
from ..types import Carry, State, Time
from .base import SolverInfo, Step
from .implicit import ImplicitSolver
from .stages import Stages

__all__ = ["BDF2"]


class _Past(NamedTuple):
    """The state one step before."""

    y: State


class BDF2(ImplicitSolver):
    """The two-step backward differentiation formula, y₁ = 4/3 y₀ − 1/3 y₋₁ + 2/3 h f(t₁, y₁).

    Order 2, one implicit stage; an iteration is one evaluation. The first step is that of `ImplicitEuler`. L-stable,
    for equal steps. Not to be confused with `Trapezoid`, which has the same order and damps nothing.

    Reference: Curtiss & Hirschfelder 1952; Hairer & Wanner, Solving Ordinary Differential Equations II, §V.1.
    """

    info = SolverInfo(
        order=2,
        nfe_step=None,
        stiff_order=2,
        dense_order=2,
        stability=inf,
        steps=2,
        uniform_steps=True,
        reference="Curtiss & Hirschfelder 1952; Hairer & Wanner 1996, §V.1",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the state before."""
        stages = Stages(self.newton, term, t0, t1, y0)
        base, share = stages.y0, 1.0
        if carry is not None:
            base, share = torch.lerp(stages.layout.flat(carry.y), stages.y0, 4 / 3), 2 / 3
        weight = torch.full((1, 1), share, dtype=base.dtype, device=base.device)
        u, _ = stages.implicit((1.0,), base, weight)
        y1 = torch.add(base, u[:, 0], alpha=share)
        state = stages.layout.state
        return Step(state(y1), _Past(y0), slopes=(state(u[:, 0]),), inner=stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The parabola through both ends with the slope of the second; no evaluations."""
        (u,) = step.slopes
        return y0, combine([-2.0, 2.0, -1.0], [y0, step.y, u]), combine([1.0, -1.0, 1.0], [y0, step.y, u])
