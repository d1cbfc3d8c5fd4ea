"""Station: the integrator of stochastic equations. Rößler's stochastic Runge–Kutta methods of strong order 3/2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch

from ..brownian import SPACE_TIME
from ..errors import InputError
from ..states import axpy, each, like, root
from ..terms import Drive, Slope, Stochastic, Term
from ..types import Carry, Noise, State, Tensor, Time
from .base import Solver, SolverInfo, Step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SRK"]

STRONG: Mapping[Noise, float] = {"additive": 1.5, "diagonal": 1.5, "scalar": 1.5}


@dataclass(frozen=True)
class _Tableau:
    """A method for diagonal and scalar noise: stages H of the drift, and K of the diffusion.

    H_i = y + Σ a_ij f(H_j) h + Σ b_ij g(K_j) U/h, and K_i = y + Σ c_ij f(H_j) h + Σ d_ij g(K_j) √h.
    """

    times: tuple[float, ...]
    """Where the drift is evaluated, as a share of the step."""
    a: tuple[tuple[float, ...], ...]
    b: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    """Of the drift's stages in the solution."""
    c: tuple[tuple[float, ...], ...]
    d: tuple[tuple[float, ...], ...]
    own: tuple[float, ...]
    """β², of the four stages of the diffusion."""


NODES = (0.0, 0.25, 1.0, 0.25)
FIRST, THIRD, FOURTH = (-1.0, 4 / 3, 2 / 3, 0.0), (2.0, -4 / 3, -2 / 3, 0.0), (-2.0, 5 / 3, -2 / 3, 1.0)
"""Nodes of the diffusion, β¹, β³ and β⁴, which both methods share."""

SECOND_ORDER = _Tableau(
    times=(0.0, 0.75),
    a=((), (0.75,)),
    b=((), (1.5,)),
    weights=(1 / 3, 2 / 3),
    c=((), (0.25,), (1.0,), (0.25,)),  # the third stage of the drift is the first
    d=((), (0.5,), (-1.0, 0.0), (-5.0, 3.0, 0.5)),
    own=(-1.0, 4 / 3, -1 / 3, 0.0),
)
"""SRI1 of Rößler 2010, table 5.1, whose drift is of order 2: two evaluations of it."""

THIRD_ORDER = _Tableau(
    times=(0.0, 1.0, 0.5),
    a=((), (1.0,), (0.25, 0.25)),
    b=((), (0.0,), (1.0, 0.5)),
    weights=(1 / 6, 1 / 6, 2 / 3),
    c=((), (0.25,), (1.0,), (0.0, 0.0, 0.25)),
    d=((), (-0.5,), (1.0, 0.0), (2.0, -1.0, 0.5)),
    own=(1.0, -4 / 3, 1 / 3, 0.0),
)
"""SRI2, whose drift is of order 3: three evaluations."""


class SRK(Solver):
    """Rößler's stochastic Runge–Kutta methods for Itô's equations: strong order 3/2 without derivatives.

    For diagonal and scalar noise SRI1 (or SRI2), for additive noise SRA1. Order 2 (or 3 with `drift_order=3`, but for
    additive noise) for ordinary equations, weak order 3/2. An evaluation of drift and of diffusion each: two (or three)
    of the drift and four of the diffusion a step; for additive noise two of each. Asks a Brownian path for its time
    integral. Not to be confused with Runge–Kutta methods on stochastic terms, such as `Heun`, which know W alone.

    Args:
        drift_order: order of the method on an ordinary equation, 2 or 3.

    Raises:
        InputError: for another order.

    Reference: Rößler, Runge–Kutta Methods for the Strong Approximation of Solutions of SDEs, SIAM J. Numer. Anal. 48
    (2010), tables 5.1, 6.2, 6.3.
    """

    def __init__(self, drift_order: Literal[2, 3] = 2) -> None:
        if drift_order not in (2, 3):
            raise InputError(f"SRK got drift_order={drift_order!r}; it must be 2 or 3")
        self.drift_order = drift_order
        self.info = SolverInfo(
            order=drift_order,
            nfe_step=4 + drift_order,
            calculus="ito",
            strong_order=STRONG,
            weak_order=1.5,
            area=SPACE_TIME,
            terms=(Stochastic,),
            reference="Rößler 2010, SIAM J. Numer. Anal. 48",
        )

    def __repr__(self) -> str:
        return f"SRK({'drift_order=3' if self.drift_order == 3 else ''})"

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step."""
        sde, control = cast(Stochastic, term), cast(Drive, term.control(t0, t1))
        if sde.noise == "additive":
            return Step(_additive(sde, t0, t1, y0, control))
        return Step(_diagonal(THIRD_ORDER if self.drift_order == 3 else SECOND_ORDER, sde, t0, y0, control))

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Both orders of the drift."""
        return cls(), cls(drift_order=3)


def _additive(sde: Stochastic, t0: Time, t1: Time, y0: State, control: Drive) -> State:
    """SRA1: the drift at both ends of three quarters of the step, the diffusion at both ends of the step."""
    dt, start, end = control.dt, sde.vf(t0, y0), sde.diffusion(t1, y0)
    mean = each(lambda u: u / like(dt, u), cast(State, control.u))  # of W over the step
    y = sde.advance(y0, [1.0], [Slope(start.f, end)], Drive(0.75 * dt, each(lambda m: 1.5 * m, mean)))
    f1 = sde.drift(t0 + 0.75 * dt, y)
    y1 = sde.advance(y0, [1.0], [start], Drive(1 / 3 * dt, mean))
    return sde.advance(y1, [1.0], [Slope(f1, end)], Drive(2 / 3 * dt, each(torch.sub, control.w, mean)))


def _diagonal(tableau: _Tableau, sde: Stochastic, t0: Time, y0: State, control: Drive) -> State:
    """A step for diagonal and scalar noise; stages are evaluated in turn, the drift's where it has one left."""
    dt, root_dt, noises = control.dt, root(control.dt), _noises(control)
    start: Slope = sde.vf(t0, y0)
    fs, gs = [start.f], [start.g]
    for i in range(1, 4):
        if i < len(tableau.times):
            y = _sum(y0, dt, tableau.a[i], fs)
            for share, g in zip(tableau.b[i], gs, strict=True):
                y = _moved(y, g, (0.0, 0.0, share / dt, 0.0), noises)
            fs.append(sde.drift(t0 + tableau.times[i] * dt, y))
        y = _sum(_sum(y0, dt, tableau.c[i], fs), root_dt, tableau.d[i], gs)
        gs.append(sde.diffusion(t0 + NODES[i] * dt, y))
    y1 = _sum(y0, dt, tableau.weights, fs)
    for g, first, second, third, fourth in zip(gs, FIRST, tableau.own, THIRD, FOURTH, strict=True):
        weights = (first - fourth / 3.0, second / (2.0 * root_dt), third / dt, fourth / (6.0 * dt))
        y1 = _moved(y1, g, weights, noises)
    return y1


def _noises(control: Drive) -> tuple[State, ...]:
    """W, 2I₁₁ = W² − h, U and 6I₁₁₁ + 2hW = W (W² − h), of which stages are multiplied by sums."""
    w, u = (each(torch.Tensor.contiguous, part) for part in (control.w, cast(State, control.u)))  # they are read often
    twice = each(lambda x: x.square() - like(control.dt, x), w)
    return w, twice, u, each(torch.mul, w, twice)


def _moved(y: State, g: State, weights: Sequence[Time], noises: Sequence[State]) -> State:
    """`y + g Σ weight · noise`: of the numbers a step adds up, the fewest passes over memory."""
    parts = [(weight, noise) for weight, noise in zip(weights, noises, strict=True) if _counts(weight)]
    if not parts:
        return y
    (whole, total), *rest = parts
    for weight, noise in rest:
        total = axpy(weight / whole, noise, total)
    if isinstance(whole, float):
        return each(lambda a, b, c: torch.addcmul(a, b, c, value=whole), y, g, total)
    return each(lambda a, b, c: a + like(whole, a) * b * c, y, g, total)


def _sum(y: State, factor: Time, weights: Sequence[float], values: Sequence[State]) -> State:
    """`y + factor Σ weight · value`, without those of weight zero."""
    for weight, value in zip(weights, values, strict=False):
        if weight:
            y = axpy(weight * factor, value, y)
    return y


def _counts(weight: Time) -> bool:
    return isinstance(weight, Tensor) or weight != 0.0
