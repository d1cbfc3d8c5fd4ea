"""Station: the integrator. Collocation: a polynomial that satisfies the equation at the nodes of a step."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import torch

from ..linear import Factorised, Krylov, Linearisation
from ..states import combine
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from .base import SolverInfo, Step
from .implicit import ImplicitSolver
from .stages import Layout, Stages, weighted

__all__ = ["Collocation", "GaussLegendre4", "GaussLegendre6", "ImplicitEuler", "ImplicitMidpoint", "Nodes", "RadauIIA5"]


REAL = 3 + 3 ** (2 / 3) - 3 ** (1 / 3)
"""μ, the real eigenvalue of the inverse of RadauIIA5's matrix (Hairer & Wanner §IV.8)."""

ESTIMATE = ((-13 - 7 * sqrt(6)) / 3, (-13 + 7 * sqrt(6)) / 3, -1 / 3)
"""μ (e₁, e₂, e₃) of RadauIIA5's error estimate (Hairer & Wanner, eq. IV.8.19)."""

FILTERED = 1e-3
"""Relative residual to which GMRES filters an error estimate."""


@dataclass(frozen=True)
class Nodes:
    """The nodes of a collocation method, from which everything else follows.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, Theorem II.7.8.
    """

    c: tuple[float, ...]

    @cached_property
    def dense(self) -> tuple[tuple[float, ...], ...]:
        """For each power of θ from the first, the weight of each stage in the polynomial less its start."""
        s = len(self.c)
        powers = np.vander(np.array(self.c), s, increasing=True).T  # (power, stage)
        lagrange = np.linalg.inv(powers)  # (stage, power): the polynomial that is 1 at its own node, 0 at the others
        return tuple(tuple(float(w) / (k + 1) for w in lagrange[:, k]) for k in range(s))

    @cached_property
    def a(self) -> tuple[tuple[float, ...], ...]:
        """The weights of the stage values."""
        return tuple(self.at(c) for c in self.c)

    @cached_property
    def b(self) -> tuple[float, ...]:
        """The weights of the solution."""
        return self.at(1.0)

    def at(self, theta: float) -> tuple[float, ...]:
        """The weights of the polynomial, less its start, at θ."""
        return tuple(sum(w * theta ** (k + 1) for k, w in enumerate(ws)) for ws in zip(*self.dense, strict=True))


class Collocation(ImplicitSolver):
    """Any collocation method: a subclass gives `nodes` and `info`."""

    @property
    @abstractmethod
    def nodes(self) -> Nodes:
        """The method's nodes; a subclass has them as a class attribute."""

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the stages, all at once, then the solution."""
        stages = Stages(self.newton, term, t0, t1, y0)
        u, _ = stages.implicit(self.nodes.c, stages.y0, self.coupling(stages.y0))
        return self.finish(stages, u)

    def coupling(self, y: Tensor) -> Tensor:
        """The matrix `a`, of the dtype and on the device of `y`."""
        return torch.tensor(self.nodes.a, dtype=y.dtype, device=y.device)

    def finish(self, stages: Stages, u: Tensor) -> Step:
        """The step that these increments `(batch, stages, n)` make."""
        state, increments = stages.layout.state, u.unbind(1)
        y1 = weighted(self.nodes.b, increments, stages.y0)
        return Step(state(y1), slopes=tuple(state(stage) for stage in increments), inner=stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The collocation polynomial; no evaluations. `step.slopes` are the increments h f of the stages."""
        return y0, *(combine(weights, step.slopes) for weights in self.nodes.dense)


class ImplicitEuler(Collocation):
    """The implicit Euler method, y₁ = y₀ + h f(t₁, y₁).

    Order 1, one implicit stage; an iteration is one evaluation. L-stable. On a layered term it is the implicit residual
    network. Not to be confused with `SymplecticEuler`, which solves no equations.

    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.3; Li, He & Lin, ICML 2020.
    """

    nodes = Nodes((1.0,))
    info = SolverInfo(
        order=1,
        nfe_step=None,
        stiff_order=1,
        dense_order=1,
        stability=inf,
        reference="Hairer & Wanner 1996, §IV.3; Li, He & Lin 2020",
    )


class ImplicitMidpoint(Collocation):
    """The implicit midpoint rule, y₁ = y₀ + h f(t₀ + h/2, (y₀ + y₁)/2): Gauss's method with one stage.

    Order 2, one implicit stage; an iteration is one evaluation. A-stable, symmetric, symplectic on Hamiltonian systems,
    keeps quadratic invariants. Fast components do not decay, R(∞) = −1. Not to be confused with `Midpoint`, which is
    explicit, nor with `Trapezoid`, which has the same R.

    Reference: Hairer, Lubich & Wanner, Geometric Numerical Integration, §II.1.3 and §VI.4.
    """

    nodes = Nodes((0.5,))
    info = SolverInfo(
        order=2,
        nfe_step=None,
        stiff_order=2,
        dense_order=2,
        stability=inf,
        symplectic=True,
        reference="Hairer, Lubich & Wanner 2006, §VI.4",
    )


class GaussLegendre4(Collocation):
    """Gauss's method with two stages, at the zeros of the Legendre polynomial: Hammer and Hollingsworth's.

    Order 4, two coupled implicit stages; an iteration is two evaluations. A-stable, symmetric, symplectic on
    Hamiltonian systems, keeps quadratic invariants. On stiff problems order 2, and R(∞) = 1. Not to be confused with
    Lobatto's and Radau's methods, which have nodes at the ends.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, Table II.7.3.
    """

    nodes = Nodes((0.5 - sqrt(3) / 6, 0.5 + sqrt(3) / 6))
    info = SolverInfo(
        order=4,
        nfe_step=None,
        stiff_order=2,
        dense_order=3,
        stability=inf,
        symplectic=True,
        reference="Hammer & Hollingsworth 1955; Hairer, Nørsett & Wanner 1993, Table II.7.3",
    )


class GaussLegendre6(Collocation):
    """Gauss's method with three stages: Kuntzmann and Butcher's of order 6.

    Order 6, three coupled implicit stages; an iteration is three evaluations. A-stable, symmetric, symplectic on
    Hamiltonian systems, keeps quadratic invariants. On stiff problems order 4, and R(∞) = −1. Not to be confused with
    `RadauIIA5`, which damps fast components.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, Table II.7.4.
    """

    nodes = Nodes((0.5 - sqrt(15) / 10, 0.5, 0.5 + sqrt(15) / 10))
    info = SolverInfo(
        order=6,
        nfe_step=None,
        stiff_order=4,
        dense_order=4,
        stability=inf,
        symplectic=True,
        reference="Kuntzmann 1961; Butcher 1964; Hairer, Nørsett & Wanner 1993, Table II.7.4",
    )


class _Last(NamedTuple):
    """The polynomial of the step before."""

    u: Tensor
    h: Time


class RadauIIA5(Collocation):
    """Ehle's method with three stages at Radau's right nodes, the one of the code RADAU5.

    Order 5, three coupled implicit stages; one evaluation at the start of a step, whose Jacobian begins the iteration,
    and three an iteration. L-stable and stiffly accurate, order 3 on stiff problems. The error estimate is filtered by
    the Jacobian, so that it stays bounded on stiff components; it carries no gradient. The iteration begins at the
    polynomial of the step before. Not to be confused with Radau IA.

    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.5, Table 5.6, and §IV.8.
    """

    nodes = Nodes(((4 - sqrt(6)) / 10, (4 + sqrt(6)) / 10, 1.0))
    info = SolverInfo(
        order=5,
        nfe_step=None,
        error_order=4,
        stiff_order=3,
        dense_order=4,
        stability=inf,
        reference="Ehle 1969; Hairer & Wanner 1996, Table IV.5.6",
    )

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """A step before that stood still."""
        flat = Layout(y0).flat(y0)
        return _Last(flat.new_zeros(len(flat), len(self.nodes.c), flat.shape[1]), t1 - t0)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the polynomial of the step before."""
        stages = Stages(self.newton, term, t0, t1, y0)
        start, a = stages.linearised(), self.coupling(stages.y0)
        jacobians = start.jacobians() if self.newton.factorises(carry.u) else None
        inverse = None if jacobians is None else Factorised.of(jacobians.expand(-1, len(a), -1, -1), a)
        guess = self._extrapolated(stages, carry) if term.continuous else None
        u, _ = stages.implicit(self.nodes.c, stages.y0, a, guess, inverse)
        error = self._error(start, jacobians, torch.einsum("ij,bjn->bin", a, u.detach()))
        return self.finish(stages, u)._replace(carry=_Last(u.detach(), t1 - t0), error=stages.layout.state(error))

    def _extrapolated(self, stages: Stages, last: _Last) -> Tensor:
        """The stage values that the polynomial of the step before goes on to."""
        ratio, y = (stages.t1 - stages.t0) / last.h, stages.y0.detach()
        beyond = ratio.detach().reshape(-1, 1) if isinstance(ratio, Tensor) else ratio
        bends = [weighted(weights, last.u.unbind(1)) for weights in self.nodes.dense]
        values = [
            y + sum((bend * ((1.0 + c * beyond) ** k - 1.0) for k, bend in enumerate(bends, 1)), torch.zeros_like(y))
            for c in self.nodes.c
        ]
        return torch.stack(values, 1).to(y.dtype)

    @torch.no_grad()
    def _error(self, start: Linearisation, jacobians: Tensor | None, z: Tensor) -> Tensor:
        """(1 − J/μ)⁻¹ (h f(t₀, y₀) + Σ e_i (z_i − y₀))/μ, from the stage values less the start `(batch, 3, n)`."""
        first = start.value.detach()
        a = torch.full((1, 1), 1 / REAL, dtype=z.dtype, device=z.device)
        inverse = Krylov(start, a, FILTERED) if jacobians is None else Factorised.of(jacobians, a)
        return inverse.solve(weighted(ESTIMATE, z.unbind(1), first[:, 0])[:, None])[:, 0] / REAL
