"""Station: the integrator. Exponential methods: the linear part of a semilinear equation is solved exactly."""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple, cast

import torch

from ..states import combine, each
from ..terms import Semilinear, Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step

__all__ = ["ETD1", "ETD2", "ETDRK4"]


class _Past(NamedTuple):
    """The nonlinear part at the step before, and the length of that step."""

    n: State
    h: Time


class ETD1(Solver):
    """The exponential Euler method for y' = Ly + N(t, y): y₁ = φ₀(hL) y₀ + h φ₁(hL) N(t₀, y₀).

    Order 1, one evaluation of N a step and none of L, whose stiffness costs nothing: exact where N is constant. On
    layers, a residual network with decay. Not to be confused with `IMEXEuler`, which solves for L's part at t₁, nor
    with the Lawson–Euler method, whose fixed points are not those of the equation.

    Reference: Cox & Matthews, J. Comput. Phys. 176 (2002), §2; Hochbruck & Ostermann, Acta Numerica 19 (2010).
    """

    info = SolverInfo(
        order=1,
        nfe_step=1,
        stability=math.inf,
        terms=(Semilinear,),
        reference="Certaine 1960; Cox & Matthews 2002",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        pair = cast(Semilinear, term)
        return Step(_advance(pair, t0, t1, y0, [pair.explicit.vf(t0, y0)]))


class ETD2(Solver):
    """The two-step exponential Adams method: y₁ = φ₀ y₀ + h φ₁ N₀ + h r φ₂ (N₀ − N₋₁), each φ at hL, r = h/h₋₁.

    Order 2, one evaluation of N a step and none of L; the first step is that of `ETD1`; steps may differ. On layers, a
    network that remembers the layer before. Not to be confused with `AB2`, which it is for L = 0, nor with ETD2RK of
    the same paper, which has stages.

    Reference: Cox & Matthews, J. Comput. Phys. 176 (2002), §2; Hochbruck & Ostermann, Acta Numerica 19 (2010).
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        stability=math.inf,
        steps=2,
        terms=(Semilinear,),
        reference="Certaine 1960; Cox & Matthews 2002",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the last value of N and step."""
        pair, h = cast(Semilinear, term), t1 - t0
        n = pair.explicit.vf(t0, y0)
        if carry is None:
            return Step(_advance(pair, t0, t1, y0, [n]), _Past(n, h))
        ratio = h / carry.h
        return Step(_advance(pair, t0, t1, y0, [n, combine([ratio, -ratio], [n, carry.n])]), _Past(n, h))


class ETDRK4(Solver):
    """The fourth-order exponential Runge–Kutta method of Cox and Matthews; for L = 0 it is `RK4`.

    With φₖ = φₖ(hL/2): A = φ₀y₀ + h/2 φ₁N₀, B = φ₀y₀ + h/2 φ₁N_A, C = φ₀A + h/2 φ₁(2N_B − N₀), and with φₖ = φₖ(hL):
    y₁ = φ₀y₀ + h(φ₁N₀ + φ₂(−3N₀ + 2N_A + 2N_B − N_C) + 4φ₃(N₀ − N_A − N_B + N_C)). Order 4, four evaluations of N a
    step and none of L; stable however stiff L is, though errors may then fall with order 2 or 3 alone, from a low
    level: on Prothero and Robinson's problem 2. Not to be confused with Lawson's integrating-factor RK4, whose errors
    grow with L.

    Reference: Cox & Matthews, J. Comput. Phys. 176 (2002), §2; for its order, Hochbruck & Ostermann, SIAM J. Numer.
    Anal. 43 (2005).
    """

    info = SolverInfo(order=4, nfe_step=4, stability=math.inf, terms=(Semilinear,), reference="Cox & Matthews 2002")

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        pair, middle = cast(Semilinear, term), t0 + 0.5 * (t1 - t0)
        n0 = pair.explicit.vf(t0, y0)
        a = _advance(pair, t0, middle, y0, [n0])
        na = pair.explicit.vf(middle, a)
        nb = pair.explicit.vf(middle, _advance(pair, t0, middle, y0, [na]))
        nc = pair.explicit.vf(t1, _advance(pair, t0, middle, a, [combine([2.0, -1.0], [nb, n0])]))
        stages = [n0, na, nb, nc]
        slope, bend = combine([-3.0, 2.0, 2.0, -1.0], stages), combine([4.0, -4.0, -4.0, 4.0], stages)
        return Step(_advance(pair, t0, t1, y0, [n0, slope, bend]))


def _advance(term: Semilinear, t0: Time, t1: Time, y0: State, parts: list[State]) -> State:
    """φ₀(hL) y₀ + Σ h φₖ(hL) partₖ, k from 1: the solution at `t1` of y' = Ly + Σ partₖ ((t − t₀)/h)ᵏ⁻¹/(k − 1)!."""
    flow, h, control = term.flow, t1 - t0, term.control(t0, t1)
    moved = [flow.phi(k, h, term.prod(part, control)) for k, part in enumerate(parts, 1)]
    return reduce(lambda total, part: each(torch.add, total, part), moved, flow.phi(0, h, y0))
