"""Station: the integrator. Diagonally implicit methods: an explicit first stage, then one implicit stage at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InputError
from ..states import combine
from ..terms import Term
from ..times import Array
from ..types import Carry, State, Time
from .base import SolverInfo, Step
from .implicit import ImplicitSolver
from .stages import Stages, weighted

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ESDIRK", "Diagonal", "Kvaerno3", "Kvaerno5", "Theta", "Trapezoid", "extension"]

NEIGHBOURS = 3
"""How many stage values a guess goes on from."""


@dataclass(frozen=True)
class Diagonal:
    """A stiffly accurate method with an explicit first stage and one γ: z_i = y₀ + Σ a_ij u_j + γ u_i, y₁ = z_s.

    Args:
        gamma: the diagonal.
        c: the nodes, the first 0, the last 1.
        a: the rows below the diagonal, the first of them empty.
        b_error: the weights of the solution less those of the embedded one; None without an embedded method.
        extended: order of the conditions that the solution between the ends satisfies, at most 3.
    """

    gamma: float
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b_error: tuple[float, ...] | None = None
    extended: int = 3

    @cached_property
    def matrix(self) -> Array:
        """The whole matrix, `(stages, stages)`."""
        s = len(self.c)
        rows = [[*row, self.gamma if i else 0.0, *[0.0] * (s - i - 1)] for i, row in enumerate(self.a)]
        return np.array(rows)

    @cached_property
    def dense(self) -> tuple[tuple[float, ...], ...]:
        """For each power of θ from the first, the weight of each stage in the solution between the ends."""
        return extension([self.matrix], self.matrix[-1], self.c, self.extended)

    @cached_property
    def guesses(self) -> tuple[tuple[float, ...], ...]:
        """For each stage, the weights of earlier stage values in the polynomial through the nearest of them.

        Values of stages lie on a stiff problem's slow manifold, where increments may not.
        """
        return tuple(_through(self.c[:i], c) for i, c in enumerate(self.c))


def extension(
    matrices: Sequence[Array], b: Sequence[float] | Array, nodes: Sequence[float], order: int
) -> tuple[tuple[float, ...], ...]:
    """The solution between the ends of a step, y₀ + Σ_k θ^k Σ_i w_ki u_i, as the weights w of each power.

    The least weights that satisfy the conditions of the order, give `b` at θ = 1, and let an error of the first,
    explicit stage, which stiff components make large, cancel as it does at θ = 1.

    Args:
        matrices: the matrices that share the nodes, the implicit one first.
        b: the weights of the solution.
        nodes: the nodes.
        order: at most 3; the degree, too.
    """
    c, s = np.array(nodes), len(nodes)
    implicit = matrices[0]
    echo = np.array([1.0, *-np.linalg.solve(implicit[1:, 1:], implicit[1:, 0])])
    conditions = [(np.ones(s), 1, 1.0), (c, 2, 1 / 2), (c**2, 3, 1 / 3), *((a @ c, 3, 1 / 6) for a in matrices)]
    rows, values = [], []
    for power in range(1, order + 1):
        place = np.zeros(order)
        place[power - 1] = 1.0
        for row, of, value in [(echo, 0, 0.0), *(known for known in conditions if known[1] <= order)]:
            rows.append(np.kron(place, row))
            values.append(value if of == power else 0.0)
    rows += list(np.kron(np.ones(order), np.eye(s)))
    values += list(b)
    found = np.linalg.lstsq(np.array(rows), np.array(values), rcond=1e-12)[0]
    return tuple(tuple(map(float, row)) for row in found.reshape(order, s))


class ESDIRK(ImplicitSolver):
    """Any such method: a subclass gives `tableau` and `info`."""

    @property
    @abstractmethod
    def tableau(self) -> Diagonal:
        """The method's numbers; a subclass has them as a class attribute."""

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the stages in order; the last one's value is the solution."""
        tableau, stages = self.tableau, Stages(self.newton, term, t0, t1, y0)
        y, state = stages.y0, stages.layout.state
        gamma = torch.full((1, 1), tableau.gamma, dtype=y.dtype, device=y.device)
        u, z, inverse = [stages.explicit(0.0, y)], [y], None
        for node, row, guess in zip(tableau.c[1:], tableau.a[1:], tableau.guesses[1:], strict=True):
            base = weighted(row, u, y)
            found, inverse = stages.implicit((node,), base, gamma, weighted(guess, z)[:, None], inverse)
            u.append(found[:, 0])
            z.append(torch.add(base, u[-1], alpha=tableau.gamma))
        error = None if tableau.b_error is None else state(weighted(tableau.b_error, u))
        return Step(state(z[-1]), None, error, tuple(state(stage) for stage in u), stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """A continuous extension of the method; no evaluations. `step.slopes` are the increments h f of the stages."""
        return y0, *(combine(weights, step.slopes) for weights in self.tableau.dense)


class Trapezoid(ESDIRK):
    """The trapezoidal rule, y₁ = y₀ + h/2 (f(t₀, y₀) + f(t₁, y₁)), of Crank and Nicolson on parabolic problems.

    Order 2, an explicit and an implicit stage; one evaluation, and one an iteration. A-stable and symmetric; fast
    components do not decay, R(∞) = −1. Between the ends of a step the solution is linear. Not to be confused with
    `Heun`, the explicit trapezoidal rule, nor with `ImplicitMidpoint`.

    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.3.
    """

    tableau = Diagonal(0.5, (0.0, 1.0), ((), (0.5,)), extended=1)
    info = SolverInfo(
        order=2,
        nfe_step=None,
        stiff_order=2,
        dense_order=2,
        stability=inf,
        reference="Crank & Nicolson 1947; Hairer & Wanner 1996, §IV.3",
    )


class Theta(ESDIRK):
    """The θ method, y₁ = y₀ + h ((1 − θ) f(t₀, y₀) + θ f(t₁, y₁)): `Trapezoid` at ½, `ImplicitEuler` at 1.

    Order 1, and 2 at θ = ½, an explicit and an implicit stage; one evaluation, and one an iteration. A-stable from ½,
    with R(∞) = 1 − 1/θ; below, stable to 2/(1 − 2θ). Between the ends of a step the solution is linear. On layers it is
    the implicit residual network of Reshniak & Webster. Not to be confused with `Euler`, which it would be at 0.

    Args:
        theta: θ, above 0 and at most 1.
        dense: most unknowns of a stage whose equations are factorised; above, GMRES solves them.
        max_iterations: most iterations for the stage.

    Raises:
        InputError: for another θ, a negative `dense`, or no iterations.

    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.3; Reshniak & Webster, Robust Learning
    with Implicit Residual Networks, 2019 (arXiv 1905.10479).
    """

    def __init__(self, theta: float = 0.5, dense: int = 64, max_iterations: int = 50) -> None:
        super().__init__(dense, max_iterations)
        if not 0.0 < theta <= 1.0:
            raise InputError(f"Theta got theta={theta:g}; it must lie above 0 and be at most 1: at 0 it is Euler")
        self.theta = float(theta)
        order = 2 if theta == 0.5 else 1
        self.info = SolverInfo(
            order=order,
            nfe_step=None,
            stiff_order=order if theta >= 0.5 else None,
            dense_order=order,
            stability=inf if theta >= 0.5 else 2.0 / (1.0 - 2.0 * self.theta),
            reference="Hairer & Wanner 1996, §IV.3; Reshniak & Webster 2019",
        )

    def __repr__(self) -> str:
        return f"Theta({self.theta:g})"

    @cached_property
    def tableau(self) -> Diagonal:
        """The numbers for θ."""
        return Diagonal(self.theta, (0.0, 1.0), ((), (1.0 - self.theta,)), extended=1)

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Of order 1, stable everywhere and not, and of order 2."""
        return cls(0.75), cls(0.25), cls(0.5)


_G = 0.43586652150845899941601945
"""The middle root of 6γ³ − 18γ² + 9γ − 1, which makes a method of three implicit stages L-stable."""


class Kvaerno3(ESDIRK):
    """Kværnø's method ESDIRK 3/2: order 3 with an embedded one of order 2.

    Order 3, four stages, the first explicit; one evaluation, and one an iteration of each of three stages, which share
    a Jacobian. L-stable and stiffly accurate, as the embedded method is (its stage is the third); order 2 on stiff
    problems. Not to be confused with SDIRK methods, whose first stage is implicit.

    Reference: Kværnø, Singly Diagonally Implicit Runge–Kutta Methods with an Explicit First Stage, BIT 44 (2004).
    """

    tableau = Diagonal(
        gamma=_G,
        c=(0.0, 2 * _G, 1.0, 1.0),
        a=(
            (),
            (_G,),
            ((-4 * _G**2 + 6 * _G - 1) / (4 * _G), (1 - 2 * _G) / (4 * _G)),
            ((6 * _G - 1) / (12 * _G), -1 / ((24 * _G - 12) * _G), (-6 * _G**2 + 6 * _G - 1) / (6 * _G - 3)),
        ),
        b_error=(
            (6 * _G - 1) / (12 * _G) - (-4 * _G**2 + 6 * _G - 1) / (4 * _G),
            -1 / ((24 * _G - 12) * _G) - (1 - 2 * _G) / (4 * _G),
            (-6 * _G**2 + 6 * _G - 1) / (6 * _G - 3) - _G,
            _G,
        ),
    )
    info = SolverInfo(
        order=3,
        nfe_step=None,
        error_order=3,
        stiff_order=2,
        dense_order=3,
        stability=inf,
        reference="Kværnø 2004",
    )


_A6 = (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676)
_A7 = (0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046, 0.62993304899016403, 0.06962479448202728)


class Kvaerno5(ESDIRK):
    """Kværnø's method ESDIRK 5/4: order 5 with an embedded one of order 4.

    Order 5, seven stages, the first explicit; one evaluation, and one an iteration of each of six stages, which share
    a Jacobian. L-stable and stiffly accurate, as the embedded method is (its stage is the sixth); order 2 on stiff
    problems. Not to be confused with KenCarp methods, which have an explicit partner.

    Reference: Kværnø, Singly Diagonally Implicit Runge–Kutta Methods with an Explicit First Stage, BIT 44 (2004).
    """

    tableau = Diagonal(
        gamma=0.26,
        c=(0.0, 0.52, 1.230333209967908, 0.8957659843500759, 0.43639360985864756, 1.0, 1.0),
        a=(
            (),
            (0.26,),
            (0.13, 0.84033320996790809),
            (0.22371961478320505, 0.47675532319799699, -0.06470895363112615),
            (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998),
            _A6,
            _A7,
        ),
        b_error=(*(b - a for a, b in zip((*_A6, 0.26), _A7, strict=True)), 0.26),
    )
    info = SolverInfo(
        order=5,
        nfe_step=None,
        error_order=5,
        stiff_order=2,
        dense_order=4,
        stability=inf,
        reference="Kværnø 2004",
    )


def _through(nodes: Sequence[float], c: float) -> tuple[float, ...]:
    """The weights of values at the nodes in the value at `c` of the polynomial through the nearest ones."""
    weights = dict.fromkeys(range(len(nodes)), 0.0)
    by_node = {node: i for i, node in enumerate(nodes)}  # the last of those that coincide
    near = sorted(by_node, key=lambda node: abs(node - c))[:NEIGHBOURS]
    for node in near:
        others = [other for other in near if other != node]
        weights[by_node[node]] = float(np.prod([(c - other) / (node - other) for other in others]))
    return tuple(weights.values())
