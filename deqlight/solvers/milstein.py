"""Station: the integrator of stochastic equations. Milstein's methods: strong order 1 from the derivative of g."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from ..states import each, like, root
from ..terms import Slope, Stochastic, Term
from ..terms.derivative import along
from ..terms.stochastic import Drive
from ..types import Carry, Noise, State, Tensor, Time
from .base import Solver, SolverInfo, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

__all__ = ["Milstein", "MilsteinMethod", "StratonovichMilstein"]

ORDER_ONE: Mapping[Noise, float] = {"additive": 1.0, "diagonal": 1.0, "scalar": 1.0}


class MilsteinMethod(Solver):
    """What both of Milstein's methods share: they differ in what the square of the noise counts for.

    Args:
        derivative_free: take the difference of g over a step of √h along g for its derivative: no backward passes
            through g, one more evaluation of it.
    """

    def __init__(self, derivative_free: bool = False) -> None:
        self.derivative_free = derivative_free
        self.info = replace(self.claims, nfe_step=3 if derivative_free else 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'derivative_free=True' if self.derivative_free else ''})"

    @property
    @abstractmethod
    def claims(self) -> SolverInfo:
        """What is claimed of the method with derivatives; a subclass has it as a class attribute."""

    @abstractmethod
    def square(self, w: Tensor, dt: Time) -> Tensor:
        """The iterated integral of the noise, twice: W², less its mean in Itô's calculus."""

    @abstractmethod
    def support(self, dt: Time, f: State, y: State) -> State:
        """Where the difference of g starts from."""

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: Euler and Maruyama's, and the derivative of g along g."""
        sde, control = cast(Stochastic, term), cast(Drive, term.control(t0, t1))
        if sde.noise == "additive":
            vf: Slope = sde.vf(t0, y0)
            return Step(sde.advance(y0, [1.0], [vf], control))
        square = each(lambda w: 0.5 * self.square(w, like(control.dt, w)), control.w)
        f = sde.drift(t0, y0)
        if self.derivative_free:
            g = sde.diffusion(t0, y0)
            root_dt = root(control.dt)
            away = each(lambda y, d: y + like(root_dt, y) * d, self.support(control.dt, f, y0), g)
            rates = each(lambda a, b: (a - b) / like(root_dt, a), sde.diffusion(t0, away), g)
        else:
            g, rates = _along_itself(sde, t0, y0)
        y1 = sde.advance(y0, [1.0], [Slope(f, g)], control)
        return Step(each(torch.add, y1, sde.noise_prod(rates, square)))

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Both forms."""
        return cls(), cls(derivative_free=True)


class Milstein(MilsteinMethod):
    """Milstein's method for Itô's equations: y₁ = y₀ + f h + g ΔW + ½ g′g (ΔW² − h).

    Order 1 for ordinary equations, strong order 1 for additive, diagonal and scalar noise, weak order 1; one evaluation
    of the drift and one of the diffusion a step, with two backward passes through it, or two evaluations and none. For
    general noise it would need Lévy areas. Not to be confused with `StratonovichMilstein`, which leaves out the −h.

    Args:
        derivative_free: the form without derivatives, of Platen: g′g by the difference of g over √h along g.

    Reference: Milstein 1974; Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §10.3, §11.1.
    """

    claims = SolverInfo(
        order=1,
        nfe_step=2,
        calculus="ito",
        strong_order=ORDER_ONE,
        weak_order=1.0,
        terms=(Stochastic,),
        reference="Milstein 1974; Kloeden & Platen 1992, §10.3",
    )

    def square(self, w: Tensor, dt: Time) -> Tensor:
        """W² − h."""
        return w.square() - dt

    def support(self, dt: Time, f: State, y: State) -> State:
        """Y + h f."""
        return each(lambda a, b: a + like(dt, a) * b, y, f)


class StratonovichMilstein(MilsteinMethod):
    """Milstein's method for Stratonovich's equations: y₁ = y₀ + f h + g ΔW + ½ g′g ΔW².

    Order 1 for ordinary equations, strong order 1 for additive, diagonal and scalar noise, weak order 1; one evaluation
    of the drift and one of the diffusion a step, with two backward passes through it, or two evaluations and none. Not
    to be confused with `Milstein`, for Itô's equations.

    Args:
        derivative_free: the form without derivatives: g′g by the difference of g over √h along g.

    Reference: Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §10.3, §11.1.
    """

    claims = SolverInfo(
        order=1,
        nfe_step=2,
        calculus="stratonovich",
        strong_order=ORDER_ONE,
        weak_order=1.0,
        terms=(Stochastic,),
        reference="Kloeden & Platen 1992, §10.3",
    )

    def square(self, w: Tensor, dt: Time) -> Tensor:
        """W²."""
        return w.square()

    def support(self, dt: Time, f: State, y: State) -> State:
        """Y."""
        return y


def _along_itself(sde: Stochastic, t: Time, y: State) -> tuple[State, State]:
    """g, and its derivative along itself; for diagonal noise the Jacobian is diagonal, so that is g′g too."""
    g, (rates,) = along(lambda z: sde.diffusion(t, z), y, lambda g: [g])
    return g, rates
