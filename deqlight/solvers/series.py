"""Station: the integrator. Series that stand for implicit methods, cut off after a few terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..states import each
from ..terms import Term
from ..types import Carry, State, Time
from .base import Solver, SolverInfo, Step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Neumann"]


class Neumann(Solver):
    """The implicit Euler method by its Neumann series: y₁ = y₀ + F(y₀) + F(F(y₀)) + …, with F(u) = h f(t₁, u).

    (I − hA)⁻¹ = I + hA + (hA)² + …, so for f(t, u) = Au it is backward Euler's step but for O(hⁿ⁺¹) with n terms. As
    published, the step of PolyNet (poly-2 for `terms=2`), it solves dy/dt = f for such f alone. With `consistent=True`
    it is the fixed-point iteration z ← y₀ + h f(t₁, z) from z = y₀, the same for linear f and of order 1 for every
    field. Order 1, one evaluation a term. A layer's field is evaluated several times: batch norms see as many
    distributions. Not to be confused with `ImplicitEuler`, which solves for y₁ and is stable for any step.

    Args:
        terms: how many powers of F, at least 1; 1 is a residual network.
        consistent: integrate dy/dt = f for every field rather than the published form.

    Raises:
        InputError: for less than one term.

    Reference: Zhang, Li, Loy & Lin, PolyNet, CVPR 2017 (arXiv 1611.05725); Lu, Zhong, Li & Dong, ICML 2018
    (arXiv 1710.10121), §2.
    """

    def __init__(self, terms: int = 2, consistent: bool = False) -> None:
        if terms < 1:
            raise InputError(f"Neumann got terms={terms}; it needs at least one, F itself")
        self.terms, self.consistent = terms, consistent
        self.info = SolverInfo(order=1, nfe_step=terms, reference="Zhang, Li, Loy & Lin 2017, arXiv 1611.05725")

    def __repr__(self) -> str:
        return f"Neumann(terms={self.terms}{', consistent' * self.consistent})"

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: as many evaluations at `t1`, each of the one before, as there are terms."""
        control, y1, last = term.control(t0, t1), y0, y0
        for _ in range(self.terms):
            last = term.prod(term.vf(t1, y1 if self.consistent else last), control)
            y1 = each(torch.add, y0 if self.consistent else y1, last)
        return Step(y1)

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """The consistent forms."""
        return cls(2, consistent=True), cls(3, consistent=True)
