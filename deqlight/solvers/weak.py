"""Station: the integrator of stochastic equations, for moments: weak order 2."""

from __future__ import annotations

from typing import cast

import torch

from ..states import axpy, each, like, root
from ..terms import Drive, Slope, Stochastic, Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step
from .milstein import ORDER_ONE

__all__ = ["Platen"]


class Platen(Solver):
    """Platen's explicit method of weak order 2 for Itô's equations.

    With y± = y₀ + f h ± g √h at t₁: y₁ = y₀ + h/2 (f(t₀, y₀) + f(t₁, y₀ + f h + g ΔW)) + ¼ (g(y₊) + g(y₋) + 2g) ΔW +
    ¼ (g(y₊) − g(y₋)) (ΔW² − h)/√h. Order 2 for ordinary equations, weak order 2, strong order 1, for additive, diagonal
    and scalar noise; two evaluations of the drift and three of the diffusion a step, two for additive noise.
    Not to be confused with Platen's method without derivatives of strong order 1, `Milstein(derivative_free=True)`.

    Reference: Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §15.1, eq. 1.1 and 1.3.
    """

    info = SolverInfo(
        order=2,
        nfe_step=5,
        calculus="ito",
        strong_order=ORDER_ONE,
        weak_order=2.0,
        terms=(Stochastic,),
        reference="Kloeden & Platen 1992, §15.1",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        sde, control = cast(Stochastic, term), cast(Drive, term.control(t0, t1))
        dt, vf = control.dt, sde.vf(t0, y0)
        end = sde.drift(t1, sde.advance(y0, [1.0], [vf], control))
        drift = each(lambda a, b: 0.5 * (a + b), vf.f, end)
        if sde.noise == "additive":
            mean = each(lambda a, b: 0.5 * (a + b), vf.g, sde.diffusion(t1, y0))
            return Step(sde.advance(y0, [1.0], [Slope(drift, mean)], control))
        root_dt = root(dt)
        ahead = axpy(dt, vf.f, y0)
        up, down = (sde.diffusion(t1, axpy(sign * root_dt, vf.g, ahead)) for sign in (1.0, -1.0))
        mean = each(lambda a, b, g: 0.25 * (a + b) + 0.5 * g, up, down, vf.g)
        square = each(lambda w: (w.square() - like(dt, w)) / (4.0 * like(root_dt, w)), control.w)
        y1 = sde.advance(y0, [1.0], [Slope(drift, mean)], control)
        return Step(each(torch.add, y1, sde.noise_prod(each(torch.sub, up, down), square)))
