"""Station: the integrator. Explicit methods whose stages buy stability rather than order, for diffusion."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InputError
from ..states import combine
from ..terms import Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step

__all__ = ["RKC"]

DAMPING = 2 / 13
"""How far the stability polynomial stays below 1 (Sommeijer, Shampine & Verwer 1998, §2): at most about 2/3 between."""


class _Stage(NamedTuple):
    """Y_j = (1 − μ − ν) y₀ + μ Y_{j−1} + ν Y_{j−2} + h (μ̃ f_{j−1} + γ̃ f₀), at t₀ + c h."""

    mu: float
    nu: float
    mu_tilde: float
    gamma_tilde: float
    c: float


class RKC(Solver):
    """The second-order Runge–Kutta–Chebyshev method: explicit, and stable for −hλ up to about 0.65 · stages².

    The stages are Chebyshev polynomials by their three-term recurrence. Order 2, `stages` evaluations a step after the
    first (the field at y₁ is the next step's first), one more on layered terms; the error estimate
    0.8 (y₀ − y₁) + 0.4 h (f₀ + f₁) is of order 3. For parabolic fields, whose Jacobian has a spectrum near the
    negative axis; the real interval of stability grows with the square of the evaluations, where that of smaller
    Euler steps grows with their number. Not to be confused with `RK4` and its like, whose stages buy order, nor with
    the first-order method of the same name.

    Args:
        stages: how many, at least 2.

    Raises:
        InputError: for fewer.

    Reference: Sommeijer, Shampine & Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput. Appl. Math. 88
    (1998), §2.
    """

    def __init__(self, stages: int = 10) -> None:
        if stages < 2:
            raise InputError(f"RKC got stages={stages}; it needs at least 2")
        self.stages = stages
        self.first, self.recurrence, reach = _coefficients(stages)
        self.info = SolverInfo(
            order=2,
            nfe_step=stages,
            nfe_start=1,
            error_order=3,
            stability=reach,
            fsal=True,
            continuous_field=True,
            reference="Sommeijer, Shampine & Verwer 1998",
        )

    def __repr__(self) -> str:
        return f"RKC(stages={self.stages})"

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The field at the start, where it is continuous over the ends of steps."""
        return term.vf(t0, y0) if term.continuous else None

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the field at `t0` if it is known."""
        h, control = t1 - t0, term.control(t0, t1)
        f0 = term.vf(t0, y0) if carry is None else carry
        before, y, c = y0, term.advance(y0, [self.first], [f0], control), self.first
        for stage in self.recurrence:
            f = term.vf(t0 + c * h, y)
            base = combine([1.0 - stage.mu - stage.nu, stage.mu, stage.nu], [y0, y, before])
            before, y = y, term.advance(base, [stage.mu_tilde, stage.gamma_tilde], [f, f0], control)
            c = stage.c
        f1 = term.vf(t1, y)
        error = term.advance(combine([0.8, -0.8], [y0, y]), [0.4, 0.4], [f0, f1], control)
        return Step(y, None if carry is None else f1, error)


def _coefficients(s: int) -> tuple[float, tuple[_Stage, ...], float]:
    """The weight of the first stage, the recurrence of the others, and how far along the axis the method is stable."""
    w0 = 1 + DAMPING / s**2
    value, slope, bend = _chebyshev(s, w0)
    w1 = slope[s] / bend[s]
    b = [bend[j] / slope[j] ** 2 if j > 1 else 1 / (4 * w0**2) for j in range(s + 1)]  # b0 = b1 = b2
    a = [1 - b[j] * value[j] for j in range(s + 1)]
    nodes, stages = [0.0, b[1] * w1], []
    for j in range(2, s + 1):
        mu, nu, mu_tilde = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w1 / b[j - 1]
        gamma_tilde = -a[j - 1] * mu_tilde
        nodes.append(mu * nodes[-1] + nu * nodes[-2] + mu_tilde + gamma_tilde)
        stages.append(_Stage(mu, nu, mu_tilde, gamma_tilde, nodes[-1]))
    return nodes[1], tuple(stages), (w0 + 1) / w1


def _chebyshev(s: int, x: float) -> tuple[list[float], list[float], list[float]]:
    """T_j, T_j′ and T_j″ at `x`, for j from 0 to `s`."""
    value, slope, bend = [1.0, x], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):
        bend.append(4 * slope[-1] + 2 * x * bend[-1] - bend[-2])
        slope.append(2 * value[-1] + 2 * x * slope[-1] - slope[-2])
        value.append(2 * x * value[-1] - value[-2])
    return value, slope, bend
