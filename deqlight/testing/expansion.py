"""Station: the measuring bench, its instruments. Moments of one step of a nonlinear equation, against their expansion.

For an equation whose coefficients are polynomials of time and state, E φ(y(t + h)) = Σ hᵏ/k! Lᵏφ, with the generator
Lφ = ∂φ/∂t + f φ' + ½ g² φ'' of its drift f in Itô's sense: polynomials all of them, and nothing is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..solvers import Solver
from ..terms import SDETerm
from ..types import Calculus, Noise, Tensor, Time
from .quadrature import stepped_over_noise
from .trial import mean_slope

__all__ = ["local_weak_order"]

Polynomial: TypeAlias = npt.NDArray[np.float64]
"""Coefficients of tⁱ yʲ, at [i, j]."""

DRIFT = np.array([[0.3, -0.6, 0.2], [0.5, 0.0, 0.0]])
"""0.3 − 0.6 y + 0.2 y² + t/2."""
BENT = np.array([[0.5, 0.4, -0.2], [0.3, 0.0, 0.0]])
"""The diffusion, but for additive noise: 0.5 + 0.4 y − 0.2 y² + 0.3 t."""
STRAIGHT = np.array([[0.5], [0.3]])
"""That of additive noise: 0.5 + 0.3 t."""

TIME, PLACE = 0.3, 0.7
"""Where the step starts."""

MOMENTS = (1, 2, 3, 4, 5)
"""Powers of y(t + h) − y(t): up to 2p + 1 they must be right to hᵖ⁺¹ for weak order p, which is 2 at most here."""

STEPS = (1024, 1536, 2048, 3072, 4096)
"""One over the step: so short that half powers of it, which methods with stages at √h have, stand apart from whole."""

TERMS = 8
"""Of the expansion: what is left of it is far below rounding."""

EXACT = 1e-14
"""Errors below this are rounding: the moment is exact."""


@torch.no_grad()
def local_weak_order(solver: Solver, noise: Noise) -> float:
    """The weak order that moments of one step show, the worst of all: their errors fall by one power more.

    Infinite if all are exact. Reference: Milstein & Tretyakov, Stochastic Numerics for Mathematical Physics, §2.1.
    """
    calculus = solver.info.calculus or "ito"
    errors = np.abs([_errors(solver, _term(calculus, noise), noise, 1 / n) for n in STEPS])
    slopes = [mean_slope(column.tolist(), STEPS) for column in errors.T if column.max() > EXACT]
    return min(slopes, default=math.inf) - 1


def _errors(solver: Solver, term: SDETerm, noise: Noise, h: float) -> list[float]:
    (ends,), weights = stepped_over_noise(solver, term, TIME, h, PLACE)
    found = [float((weights * (ends - PLACE) ** k).sum()) for k in MOMENTS]
    return [a - b for a, b in zip(found, _expanded(term.calculus, _diffusion(noise), h), strict=True)]


def _expanded(calculus: Calculus, g: Polynomial, h: float) -> list[float]:
    """E (y(t + h) − y(t))ᵏ."""
    drift = DRIFT if calculus == "ito" else _sum(DRIFT, 0.5 * _product(g, _slope_of(g)))
    square, moments = 0.5 * _product(g, g), []
    for k in MOMENTS:
        phi = np.array([[math.comb(k, j) * (-PLACE) ** (k - j) for j in range(k + 1)]])
        total = 0.0
        for n in range(TERMS):
            total += h**n / math.factorial(n) * float(np.polynomial.polynomial.polyval2d(TIME, PLACE, phi))
            first = _slope_of(phi)
            moved = _sum(_product(drift, first), _product(square, _slope_of(first)))
            phi = _sum(np.arange(1, len(phi))[:, None] * phi[1:], moved)
        moments.append(total)
    return moments


def _slope_of(a: Polynomial) -> Polynomial:
    """Its derivative in y."""
    return a[:, 1:] * np.arange(1, a.shape[1]) if a.shape[1] > 1 else np.zeros((1, 1))


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    whole = np.zeros((a.shape[0] + b.shape[0] - 1, a.shape[1] + b.shape[1] - 1))
    for (i, j), factor in np.ndenumerate(a):
        whole[i : i + b.shape[0], j : j + b.shape[1]] += factor * b
    return whole


def _sum(*parts: Polynomial) -> Polynomial:
    whole = np.zeros(np.max([part.shape for part in parts], axis=0))
    for part in parts:
        whole[: part.shape[0], : part.shape[1]] += part
    return whole


def _diffusion(noise: Noise) -> Polynomial:
    return STRAIGHT if noise == "additive" else BENT


def _term(calculus: Calculus, noise: Noise) -> SDETerm:
    g, matrix = _field(_diffusion(noise)), noise == "general"
    return SDETerm(
        _field(DRIFT),
        (lambda t, y: g(t, y)[..., None]) if matrix else g,
        noise=noise,
        calculus=calculus,
        channels=1 if matrix else None,
    )


def _field(coefficients: Polynomial) -> Callable[[Time, Any], Tensor]:
    """The polynomial as a function of time and one tensor."""
    return lambda t, y: sum(
        (float(c) * torch.as_tensor(t, dtype=y.dtype) ** i * y**j for (i, j), c in np.ndenumerate(coefficients)),
        torch.zeros_like(y),
    )
