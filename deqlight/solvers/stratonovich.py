"""Station: the integrator of stochastic equations, in Stratonovich's sense, besides Heun's and the midpoint rule."""

from __future__ import annotations

from typing import cast

import torch

from ..brownian import LEVY
from ..states import axpy, each, leaves
from ..terms import Drive, Slope, Stochastic, Term
from ..terms.derivative import along
from ..types import Carry, State, Tensor, Time
from .base import COMMUTATIVE, Solver, SolverInfo, Step

__all__ = ["EulerHeun", "LogODE"]


class EulerHeun(Solver):
    """Euler's method for the drift, Heun's for the noise: y₁ = y₀ + f h + ½ (g(y₀) + g(y₀ + g ΔW)) ΔW.

    Order 1 for ordinary equations; strong order 1 for additive, diagonal and scalar noise, 1/2 for general noise; weak
    order 1. One evaluation of the drift and two of the diffusion a step. Not to be confused with `Heun`, which
    evaluates the drift twice, too.

    Reference: Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §11.1; Rümelin 1982.
    """

    info = SolverInfo(
        order=1,
        nfe_step=3,
        calculus="stratonovich",
        strong_order=COMMUTATIVE,
        weak_order=1.0,
        terms=(Stochastic,),
        reference="Rümelin 1982; Kloeden & Platen 1992, §11.1",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        sde, control = cast(Stochastic, term), cast(Drive, term.control(t0, t1))
        vf: Slope = sde.vf(t0, y0)
        ahead = each(torch.add, y0, sde.noise_prod(vf.g, control.w))
        mean = each(lambda a, b: 0.5 * (a + b), vf.g, sde.diffusion(t1, ahead))
        return Step(sde.advance(y0, [1.0], [Slope(vf.f, mean)], control))


class LogODE(Solver):
    """The log-ODE method by the midpoint rule: with a = Lévy's area, y₁ = y₀ + f h + g ΔW + Σ_j ∂g_j (g a)_j.

    The right-hand side is evaluated at t₀ + h/2, and y₀ plus half a step of f h + g ΔW. Order 2 for ordinary equations;
    strong order 1 for all noise if the area is that of the path, which it is up to the intervals of the base grid; with
    an area drawn given W alone, 1/2 for general noise; weak order 1. Two evaluations of the drift and two of the
    diffusion a step. Asks a Brownian path for its Lévy area. Not to be confused with `Midpoint`, which leaves it out.

    Reference: Foster, Lyons & Oberhauser, An optimal polynomial approximation of Brownian motion, SIAM J. Numer. Anal.
    58 (2020); Kidger, On Neural Differential Equations, thesis, Oxford 2021, §5.
    """

    info = SolverInfo(
        order=2,
        nfe_step=4,
        calculus="stratonovich",
        strong_order={"general": 1.0},
        weak_order=1.0,
        area=LEVY,
        terms=(Stochastic,),
        reference="Foster, Lyons & Oberhauser 2020; Kidger 2021, §5",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        sde, control = cast(Stochastic, term), cast(Drive, term.control(t0, t1))
        middle = t0 + 0.5 * (t1 - t0)
        y = sde.advance(y0, [0.5], [sde.vf(t0, y0)], control)
        f = sde.drift(middle, y)
        area = cast(Tensor, control.a)

        def directions(g: State) -> list[State]:
            """The columns of g a, in each of which the column of g is differentiated."""
            whole = leaves(g)[0]
            matrix = whole.reshape(len(whole), whole.shape[1:-1].numel(), whole.shape[-1])  # (batch, state, channels)
            turned = torch.bmm(matrix, area).reshape(whole.shape)
            return list(turned.unbind(-1))

        g, rates = along(lambda z: sde.diffusion(middle, z), y, directions)
        turn = sum((cast(Tensor, rate)[..., j] for j, rate in enumerate(rates)), torch.zeros(()).to(leaves(y0)[0]))
        return Step(axpy(1.0, turn, sde.advance(y0, [1.0], [Slope(f, g)], control)))
