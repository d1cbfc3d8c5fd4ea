"""Station: the measuring bench, its instruments. Orders of convergence with noise: of paths, and of moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..brownian import Increment, Increments, Path
from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import solve
from ..states import each, leaves
from ..terms import SDETerm
from ..types import Calculus, Noise, State, Tensor, Time
from .equations import equations, exact_end

__all__ = ["calculus_gap", "moments", "strong_order", "weak_order"]

PATHS, FINE = 400, 1024
"""How many paths the error is the root mean square of, all at once; and how many intervals these are known on."""

STEPS = (8, 16, 32, 64)
"""Numbers of steps; the reference of equations without closed form is that of the finest."""

WEAK_STEPS = (16, 24, 32, 48, 64)
NODES = 12
"""Points of Gauss and Hermite's quadrature for each normal number: exact for polynomials up to degree 23."""


@torch.no_grad()
def strong_order(solver: Solver, noise: Noise, *, seed: int = 1) -> float:
    """How fast the error of single paths falls with the step: the slope over steps of one set of Brownian paths."""
    equation, calculus = equations[noise], solver.info.calculus or "ito"
    grid = _even(FINE)
    brownian, y0 = Increments(base=grid, seed=seed), equation.starts(PATHS)
    exact, term = exact_end(equation, brownian, y0, grid), equation.term(calculus, brownian)
    errors = []
    for steps in STEPS:
        end = leaves(solve(term, y0, _even(steps), solver=solver, saveat=SaveAt(final=True)).y1)[0]
        errors.append(float((end - exact).square().mean().sqrt()))
    return _slope(errors, STEPS)


@torch.no_grad()
def weak_order(solver: Solver) -> float:
    """How fast the error of mean and second moment falls, the worse of both, on linear equations; no sampling error.

    A step of a linear equation is affine in y, with random coefficients whose expectations quadrature gives exactly.
    """
    orders = []
    for linear in _linear(solver.info.calculus or "ito", _linear_noise(solver)):
        pairs = [moments(solver, linear.term, steps) for steps in WEAK_STEPS]
        for k in (0, 1):
            errors = [abs(pair[k] - linear.exact[k]) for pair in pairs]
            if max(errors) > EXACT:
                orders.append(_slope(errors, WEAK_STEPS))
    return min(orders)


@torch.no_grad()
def calculus_gap(solver: Solver) -> float:
    """How far the mean of a linear equation is from that of the claimed calculus, over how far from the other's."""
    claimed = solver.info.calculus or "ito"
    other: Calculus = "stratonovich" if claimed == "ito" else "ito"
    noise = _linear_noise(solver)
    (linear, *_), (wrong, *_) = _linear(claimed, noise), _linear(other, noise)
    mean, _ = moments(solver, linear.term, WEAK_STEPS[-1])
    return abs(mean - linear.exact[0]) / abs(mean - wrong.exact[0])


def moments(solver: Solver, term: SDETerm, steps: int) -> tuple[float, float]:
    """E y and E y² at time 1, from y = 1 at time 0, of an equation of one number that is affine in it."""
    mean, second, h = 1.0, 1.0, 1.0 / steps
    for k in range(steps):
        m, n, weights = _affine(solver, term, k * h, h)
        em, en, emm, emn, enn = (float((weights * x).sum()) for x in (m, n, m * m, m * n, n * n))
        mean, second = em * mean + en, emm * second + 2 * emn * mean + enn
    return mean, second


def _affine(solver: Solver, term: SDETerm, t: float, h: float) -> tuple[Tensor, Tensor, Tensor]:
    """A step as y₁ = M y₀ + N, at all points of the quadrature, and their weights."""
    x, p = (torch.as_tensor(part, dtype=torch.float64) for part in np.polynomial.hermite_e.hermegauss(NODES))
    pairs, weights = torch.cartesian_prod(x, x), torch.cartesian_prod(p / p.sum(), p / p.sum()).prod(1)
    w = h**0.5 * pairs[:, :1]
    u = 0.5 * h * w + (h**3 / 12) ** 0.5 * pairs[:, 1:]
    stepping = term._replace(path=_Known(Increment(w, u, torch.zeros_like(w)[..., None])))
    fixed = stepping.over(t, t + h)
    one, zero = (
        leaves(solver.step(fixed, t, t + h, y, solver.init(fixed, t, t + h, y)).y)[0][:, 0]
        for y in (torch.ones_like(w), torch.zeros_like(w))
    )
    return one - zero, zero, weights


@dataclass(frozen=True)
class _Known(Path):
    """What Brownian motion did over the one interval that is asked for."""

    found: Increment

    def increment(self, t0: Time, t1: Time) -> Increment:
        """That."""
        return self.found

    def rows(self, index: Tensor) -> Path:
        """That of some."""
        w, u, a = (None if part is None else leaves(part)[0][index] for part in self.found)
        return _Known(Increment(w, u, a))  # type: ignore[arg-type]  # W is there


@dataclass(frozen=True)
class _Linear:
    """A linear equation of one number on [0, 1] from y = 1, and its mean and second moment at the end."""

    term: SDETerm
    exact: tuple[float, float]


DECAY, PULL, SIZE = 0.8, 0.3, 0.7


def _linear(calculus: Calculus, noise: Noise) -> list[_Linear]:
    """Geometric Brownian motion, with coefficients that depend on time, and Ornstein and Uhlenbeck's process."""
    mean = math.exp(-DECAY) + PULL / DECAY * (1 - math.exp(-DECAY))
    variance = SIZE**2 * (1 - math.exp(-2 * DECAY)) / (2 * DECAY)
    process = SDETerm(_decaying, _constant, noise="additive", calculus=calculus)
    if noise == "additive":
        return [_Linear(process, (mean, variance + mean**2))]
    squares = SIZE**2 * 7 / 12  # ∫ b² with b = 0.7 (1 − t/2); ∫ a = −1 with a = −(1/2 + t)
    growth = -1.0 if calculus == "ito" else -1.0 + 0.5 * squares
    matrix = noise == "general"
    term = SDETerm(
        _shrinking, _column if matrix else _growing, noise=noise, calculus=calculus, channels=1 if matrix else None
    )
    geometric = _Linear(term, (math.exp(growth), math.exp(2 * growth + squares)))
    return [geometric] if matrix else [geometric, _Linear(process, (mean, variance + mean**2))]


def _decaying(t: Time, y: State) -> State:
    return each(lambda leaf: -DECAY * leaf + PULL, y)


def _constant(t: Time, y: State) -> State:
    return each(lambda leaf: torch.full_like(leaf, SIZE), y)


def _shrinking(t: Time, y: State) -> State:
    return each(lambda leaf: -(0.5 + t) * leaf, y)


def _growing(t: Time, y: State) -> State:
    return each(lambda leaf: SIZE * (1 - 0.5 * t) * leaf, y)


def _column(t: Time, y: State) -> State:
    return each(lambda leaf: leaf[..., None], _growing(t, y))


def _linear_noise(solver: Solver) -> Noise:
    """The kind of noise of one number that tells most of what a solver takes."""
    kinds: tuple[Noise, ...] = ("diagonal", "general", "additive")
    return next(kind for kind in kinds if kind in solver.info.strong_order)


def _even(steps: int) -> tuple[float, ...]:
    return tuple(k / steps for k in range(steps + 1))


def _slope(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The order that errors show: the least squares line through their logarithms."""
    if not all(math.isfinite(error) and error > 0 for error in errors):
        return math.nan
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (steps, errors))
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / x.square().sum())


EXACT = 1e-13
"""Errors below this are rounding: the moment is exact."""
