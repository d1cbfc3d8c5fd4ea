"""Station: the integrator of stochastic equations. Milstein's methods: strong order 1 from the derivative of g."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from ..states import each, like, root
from ..terms import Slope, Stochastic, Term
from ..terms.derivative import along
from ..types import Carry, Noise, State, Tensor, Time
from .base import Solver, SolverInfo, Step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ORDER_ONE", "Milstein", "StratonovichMilstein"]

ORDER_ONE: Mapping[Noise, float] = {"additive": 1.0, "diagonal": 1.0, "scalar": 1.0}
"""Strong orders of methods that know the square of W: what general noise needs besides are its Lévy areas."""


class Milstein(Solver):
    """Milstein's method for Itô's equations: y₁ = y₀ + f h + g ΔW + ½ g′g (ΔW² − h).

    Order 1 for ordinary equations, strong order 1 for additive, diagonal and scalar noise, weak order 1; one evaluation
    of the drift and one of the diffusion a step, with two backward passes through it, or two evaluations and none.
    Diagonal noise means that g_i depends on y_i alone, here; for general noise it would need Lévy areas.
    Not to be confused with `StratonovichMilstein`, which leaves out the −h.

    Args:
        derivative_free: the form without derivatives, of Platen: g′g by the difference of g over √h along g.

    Reference: Milstein 1974; Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §10.3, §11.1.
    """

    info = SolverInfo(
        order=1,
        nfe_step=2,
        calculus="ito",
        strong_order=ORDER_ONE,
        weak_order=1.0,
        terms=(Stochastic,),
        reference="Milstein 1974; Kloeden & Platen 1992, §10.3",
    )

    def __init__(self, derivative_free: bool = False) -> None:
        self.derivative_free = derivative_free
        if derivative_free:
            self.info = replace(self.info, nfe_step=3, reference="Platen 1980; Kloeden & Platen 1992, §11.1")

    def __repr__(self) -> str:
        return f"Milstein({'derivative_free=True' if self.derivative_free else ''})"

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: Euler and Maruyama's, and the derivative of g along g."""
        ways = _along_the_step if self.derivative_free else _along_itself
        return Step(_moved(cast(Stochastic, term), t0, t1, y0, ways, lambda w, dt: w.square() - dt))

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Both forms."""
        return cls(), cls(derivative_free=True)


class StratonovichMilstein(Solver):
    """Milstein's method for Stratonovich's equations: y₁ = y₀ + f h + g ΔW + ½ g′g ΔW².

    Order 1 for ordinary equations, strong order 1 for additive, diagonal and scalar noise, weak order 1; one evaluation
    of the drift and one of the diffusion a step, with two backward passes through it. Diagonal noise means that g_i
    depends on y_i alone, here. There is no form by a difference over √h, whose error ΔW² does not average out: it is of
    order 1/2. By a difference over ΔW it is `EulerHeun`. Not to be confused with `Milstein`, for Itô's equations.

    Reference: Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §10.3.
    """

    info = SolverInfo(
        order=1,
        nfe_step=2,
        calculus="stratonovich",
        strong_order=ORDER_ONE,
        weak_order=1.0,
        terms=(Stochastic,),
        reference="Kloeden & Platen 1992, §10.3",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: Euler's, and the derivative of g along g."""
        return Step(_moved(cast(Stochastic, term), t0, t1, y0, _along_itself, lambda w, dt: w.square()))


def _moved(
    sde: Stochastic,
    t0: Time,
    t1: Time,
    y0: State,
    ways: Callable[[Stochastic, Time, State, Time], tuple[Slope, State]],
    square: Callable[[Tensor, Time], Tensor],
) -> State:
    """The state at `t1`, by the derivative of g along g and the iterated integral of the noise, twice."""
    control = sde.control(t0, t1)
    if sde.noise == "additive":
        return sde.advance(y0, [1.0], [sde.vf(t0, y0)], control)
    vf, rates = ways(sde, t0, y0, control.dt)
    halves = each(lambda w: 0.5 * square(w, like(control.dt, w)), control.w)
    return each(torch.add, sde.advance(y0, [1.0], [vf], control), sde.noise_prod(rates, halves))


def _along_itself(sde: Stochastic, t: Time, y: State, dt: Time) -> tuple[Slope, State]:
    """Drift and diffusion, and the derivative of g along itself."""
    g, (rates,) = along(lambda z: sde.diffusion(t, z), y, lambda g: [g])
    return Slope(sde.drift(t, y), g), rates


def _along_the_step(sde: Stochastic, t: Time, y: State, dt: Time) -> tuple[Slope, State]:
    """Drift and diffusion, and the difference of g between y and y + h f + √h g, over √h."""
    vf, root_dt = sde.vf(t, y), root(dt)
    away = each(lambda a, f, g: a + like(dt, a) * f + like(root_dt, a) * g, y, vf.f, vf.g)
    return vf, each(lambda a, b: (a - b) / like(root_dt, a), sde.diffusion(t, away), vf.g)
