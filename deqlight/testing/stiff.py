"""Station: the measuring bench. Stiff problems: Prothero and Robinson's, one of many rates, and pure decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from ..solvers import SolverInfo
from ..terms import DiagonalFlow, ODETerm, Semilinear, Split, Term
from ..types import Tensor
from .problems import Forced, Problem, SampleTerm, by_kind

__all__ = ["STIFF_PARTS", "decay", "prothero_robinson", "stiffening"]

STIFF = -1e6
"""λ of Prothero and Robinson's problem: hλ is large for every step that the kit takes."""

FAST = 2.0
"""Frequency of its solution: so high that errors, which λ divides, stay above rounding."""

QUARTER = math.pi / 2 / FAST
"""Quarter of its period: so much later, a wave is its own derivative."""


def prothero_robinson(info: SolverInfo) -> Problem:
    """dy/dt = λ(y − φ(t)) + φ'(t) with λ = −10⁶ and solution φ, `(3, 2)`; what is stiff is the implicit part.

    Reference: Prothero & Robinson, Math. Comp. 28 (1974); Hairer & Wanner, Solving Ordinary Differential Equations II,
    §IV.15.
    """
    rates = torch.full((3, 1), STIFF, dtype=torch.float64)
    return _pulled(info, rates, lambda z: z)


def stiffening(info: SolverInfo) -> Problem:
    """dy/dt = λ(y + y³ − φ − φ³) + φ'(t) with solution φ and a λ for each of 13 samples, from −1 to −10⁶."""
    rates = -torch.logspace(0, 6, 13, dtype=torch.float64)[:, None]
    return _pulled(info, rates, lambda z: z + z**3)


def decay(info: SolverInfo, rates: Tensor) -> Term:
    """dy/dt = λy, with a λ for each sample: `rates` `(batch, 1)`, float64."""
    return by_kind(info, STIFF_PARTS)(Forced(torch.zeros_like(rates), _nothing, _nothing, lambda z: z, rates))


def _pulled(info: SolverInfo, rates: Tensor, g: Callable[[Tensor], Tensor]) -> Problem:
    a = torch.linspace(0.5, 1.0, len(rates), dtype=torch.float64)[:, None]
    field = Forced(a, lambda s: FAST * _wave(s + QUARTER), _wave, g, rates)
    return Problem(by_kind(info, STIFF_PARTS)(field), 0.0, 1.0, field.exact)


def _wave(s: Tensor) -> Tensor:
    return torch.cat([torch.sin(FAST * s), torch.cos(FAST * s)], 1)


def _nothing(s: Tensor) -> Tensor:
    return torch.zeros_like(s)


def _split(field: Forced) -> Term:
    """The forcing as the explicit part, the pull as the implicit one."""
    forcing, pull = replace(field, rates=0 * field.rates), replace(field, speed=_nothing)
    return Split(SampleTerm(forcing), SampleTerm(pull))


def _semilinear(field: Forced) -> Term:
    """The pull as the linear part, where it is linear."""
    forcing = replace(field, speed=lambda s: field.speed(s) - field.rates * field.along(s), rates=0 * field.rates)
    return Semilinear(DiagonalFlow(field.rates), SampleTerm(forcing))


STIFF_PARTS: Mapping[type, Callable[[Forced], Term]] = {
    Term: SampleTerm,
    ODETerm: SampleTerm,
    Split: _split,
    Semilinear: _semilinear,
}
"""How each kind of term takes a stiff field."""
