"""Station: the measuring bench, its instruments. How fast the errors of moments fall; nothing is sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..solvers import Solver
from ..states import each
from ..terms import SDETerm
from ..types import Calculus, Noise, State, Tensor, Time
from .expansion import local_weak_order
from .law import law_order
from .quadrature import stepped_over_noise
from .told import draws
from .trial import mean_slope

__all__ = ["calculus_gap", "moments", "weak_order"]

WEAK_STEPS = (16, 24, 32, 48, 64)

EXACT = 1e-13
"""Errors below this are rounding: the moment is exact."""


@torch.no_grad()
def weak_order(solver: Solver) -> float:
    """How fast the errors of moments fall, the worst of all: at the end of linear equations, and over nonlinear steps.

    A step of a linear equation is affine in y, with random coefficients whose expectations quadrature gives exactly;
    each begins anew, also those of methods with a memory. Infinite if all is exact. Of
    samplers it is that of `law_order`, of their samples of Gaussian data.
    """
    if draws(solver.info):
        return law_order(solver)
    orders = [local_weak_order(solver, noise) for noise in _of_one_number(solver)]
    for linear in _linear(solver.info.calculus or "ito", _of_one_number(solver)[0]):
        pairs = [moments(solver, linear.term, steps) for steps in WEAK_STEPS]
        for k in (0, 1):
            errors = [abs(pair[k] - linear.exact[k]) for pair in pairs]
            if max(errors) > EXACT:
                orders.append(mean_slope(errors, WEAK_STEPS))
    return min(orders)


@torch.no_grad()
def calculus_gap(solver: Solver) -> float:
    """How far the mean of a linear equation is from that of the claimed calculus, over how far from the other's."""
    claimed = solver.info.calculus or "ito"
    other: Calculus = "stratonovich" if claimed == "ito" else "ito"
    noise = _of_one_number(solver)[0]
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
    (one, zero), weights = stepped_over_noise(solver, term, t, h, 1.0, 0.0)
    return one - zero, zero, weights


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


def _of_one_number(solver: Solver) -> list[Noise]:
    """The kinds of noise that a solver takes, as one number may have them, that which tells most first."""
    kinds: tuple[Noise, ...] = ("diagonal", "scalar", "general", "additive")
    return [kind for kind in kinds if kind in solver.info.strong_order]
