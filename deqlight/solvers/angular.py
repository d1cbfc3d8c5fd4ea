"""Station: the sampler. A predictor and a corrector with the data estimate a polynomial in the angle of the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..schedules import FlowTime
from ..terms import Denoising
from .correcting import corrected_info, merged
from .denoising import REMEMBERED, DataSampler

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AngularPC"]

MOST = 4
"""The highest order of the predictor."""

NODES, WEIGHTS = (tuple(part.tolist()) for part in np.polynomial.legendre.leggauss(24))
"""Of a quadrature on −1 to 1."""


class AngularPC(DataSampler):
    """Adams' predictor and corrector, exactly integrated, for data estimates that are polynomials in arctan(ρ/scale).

    y₁ = (ρ₁/ρ₀) y₀ + ρ₁ ∫ D dρ/ρ², from ρ₁ to ρ₀, where D goes through the estimates of the steps behind; the corrector
    through the new one too. As in `UniPC`, the state between two steps is a prediction, and its correction costs
    nothing. In log-SNR D is flat on both sides, where noise covers everything and where it covers nothing, which no
    polynomial is; in the angle these are two finite ends. Order p + 1 for a predictor of order p, one evaluation a
    step; p without the corrector. The first steps have as many points as there are; a last step to 0 is of order 1.
    Not to be confused with `UniPC` and `DPMpp3M`, whose polynomials are in log-SNR.

    Args:
        order: p, 1 to 4.
        scale: ρ at 45 degrees, for data of standard deviation 1: measured, not derived. Multiply it by that of others.
        correct: whether predictions are corrected.
        lower_final: whether the predictor's order is at most the number of steps left, where that is known.

    Raises:
        InputError: for other orders, and a scale that is not positive and finite.

    Reference: Xue et al., SA-Solver, NeurIPS 2023 (arXiv 2309.05019), without noise, where the variable is log-SNR; the
    angle as in Salimans & Ho, Progressive Distillation, ICLR 2022 (arXiv 2202.00512), appendix D.
    """

    grid = FlowTime(power=2.5)

    def __init__(self, order: int = 3, scale: float = 2.0, correct: bool = True, lower_final: bool = False) -> None:
        if not 1 <= order <= MOST:
            raise InputError(f"AngularPC got order={order}; it has the orders 1 to {MOST}")
        if not 0 < scale < math.inf:
            raise InputError(f"AngularPC got scale={scale}; it must be positive and finite, 2 standard deviations")
        self.order, self.scale, self.correct, self.lower_final = order, scale, correct, lower_final
        self.kept = order if correct else order - 1
        told = "Xue et al. 2023, arXiv 2309.05019; Salimans & Ho 2022, arXiv 2202.00512"
        self.info = corrected_info(order, correct, lower_final, told)

    def __repr__(self) -> str:
        options = f"{', correct=False' * (not self.correct)}{', lower_final=True' * self.lower_final}"
        return f"AngularPC({self.order}, scale={self.scale:g}{options})"

    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """Of the prediction that the step begins at, and of the estimates."""
        return _merged(self.scale, end, rhos, points, before if self.correct else 0)

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """All orders, and a predictor alone."""
        return *(cls(p) for p in (3, 1, 2, 4)), cls(3, correct=False)


@lru_cache(REMEMBERED)
def _merged(scale: float, end: float, rhos: tuple[float, ...], points: int, before: int) -> tuple[float, ...]:
    """The weights of a step, the corrector of the step before it in them if that used any points."""
    share, ahead = end / rhos[0], _integrals(scale, rhos[0], end, rhos[:points])
    if not before:
        return merged(share, ahead, len(rhos))
    corrected = _integrals(scale, rhos[1], rhos[0], rhos[: before + 1])
    predicted = _integrals(scale, rhos[1], rhos[0], rhos[1 : before + 1])
    return merged(share, ahead, len(rhos), corrected, predicted)


def _integrals(scale: float, start: float, end: float, rhos: tuple[float, ...]) -> list[float]:
    """ρ₁ ∫ L_j dρ/ρ² from `end` to `start`, for the Lagrange polynomials L_j in the angle; by quadrature in log ρ."""
    h, known, total = math.log(start / end), [math.atan(rho / scale) for rho in rhos], [0.0] * len(rhos)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        ahead = h * (0.5 + 0.5 * node)  # how far the log-SNR has come
        angle, share = math.atan(start / scale * math.exp(-ahead)), 0.5 * h * weight * math.exp(ahead - h)
        for j, own in enumerate(known):
            part = share
            for other in known[:j] + known[j + 1 :]:
                part *= (angle - other) / (own - other)
            total[j] += part
    return total
