"""Station: the sampler. UniPC: a predictor, and a corrector that uses what the next step evaluates anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import InputError, check_word
from ..schedules import FlowTime
from ..terms import Denoising
from .correcting import corrected_info, merged
from .denoising import REMEMBERED, DataSampler

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["UniPC", "Variant"]

Variant: TypeAlias = Literal["bh1", "bh2"]
"""B(h) = h, or eʰ − 1, for the h that the exponents have."""

MOST = 3
"""The highest order of the predictor."""


class UniPC(DataSampler):
    """The unified predictor–corrector: the network is asked at the prediction, and the prediction then corrected by it.

    A step begins at a prediction. What the network says there corrects it, and predicts the end of the step: the state
    between two steps is a prediction, its correction is never formed, nor asked for again, so that it costs nothing.
    Order p + 1 for a predictor of order p, one evaluation a step. The first steps have as many points as there are; a
    last step to 0 is of order 1. Without the corrector it is UniP, of order p. Not to be confused with `ABM3`, which
    evaluates the corrected state again.

    Args:
        order: p, 1 to 3.
        variant: `bh1` or `bh2`, the B(h) of the paper.
        correct: whether predictions are corrected.
        lower_final: whether the predictor's order is at most the number of steps left, where that is known.

    Raises:
        InputError: for other orders and variants.

    Reference: Zhao, Bai, Rao, Zhou & Lu, UniPC, NeurIPS 2023 (arXiv 2302.04867), with data prediction.
    """

    grid = FlowTime(power=1.5, scale=1.0)

    def __init__(
        self, order: int = 2, variant: Variant = "bh2", correct: bool = True, lower_final: bool = True
    ) -> None:
        if not 1 <= order <= MOST:
            raise InputError(f"UniPC got order={order}; it has the orders 1 to {MOST}")
        check_word("UniPC", "variant", variant, ("bh1", "bh2"))
        self.order, self.variant, self.correct, self.lower_final = order, variant, correct, lower_final
        self.kept = order if correct else order - 1
        told = "Zhao, Bai, Rao, Zhou & Lu 2023, arXiv 2302.04867"
        self.info = corrected_info(order, correct, lower_final, told)

    def __repr__(self) -> str:
        options = f"{', correct=False' * (not self.correct)}{', lower_final=False' * (not self.lower_final)}"
        return f"UniPC({self.order}, {self.variant!r}{options})"

    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """Of the prediction that the step begins at, and of the estimates."""
        return _merged(self.variant, end, rhos, points, before if self.correct else 0)

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """All orders with both variants, and the predictors alone."""
        return (
            *(cls(p, b, lower_final=False) for p in (1, 2, 3) for b in ("bh1", "bh2")),
            *(cls(p, correct=False, lower_final=False) for p in (1, 2, 3)),
        )


@lru_cache(REMEMBERED)
def _merged(variant: Variant, end: float, rhos: tuple[float, ...], points: int, before: int) -> tuple[float, ...]:
    """The weights of a step, the corrector of the step before it in them if that used any points."""
    share, *ahead = _moved(variant, end, rhos[0], rhos[:points])
    if not before:
        return merged(share, ahead, len(rhos))
    behind = rhos[1 : before + 1]
    _, *predicted = _moved(variant, rhos[0], rhos[1], behind)
    _, *others, newest = _moved(variant, rhos[0], rhos[1], (*behind, rhos[0]))
    return merged(share, ahead, len(rhos), (newest, *others), predicted)


def _moved(variant: Variant, end: float, start: float, rhos: Sequence[float]) -> list[float]:
    """The weights of the state at `start`, and of estimates at `rhos`, the first of which is made at `start`."""
    h, share = math.log(start / end), end / start
    ratios = [math.log(start / rho) / h for rho in rhos[1:]]
    slopes = [weight / r for weight, r in zip(_scaled(variant, h, ratios), ratios, strict=True)]
    return [share, 1 - share - sum(slopes), *slopes]


def _scaled(variant: Variant, h: float, ratios: Sequence[float]) -> list[float]:
    """B(h) times the ρ of the paper for each difference of estimates."""
    if not ratios:
        return []
    scale = -h if variant == "bh1" else math.expm1(-h)
    if len(ratios) == 1:
        return [-0.5 * scale]  # at two points ρ is ½, whatever the r
    values, phi, factorial = [], math.expm1(-h) / -h - 1, 1.0
    for k in range(1, len(ratios) + 1):
        values.append(phi * factorial / scale)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    return [-scale * weight for weight in _solved(list(ratios), values)]


def _solved(nodes: list[float], values: list[float]) -> list[float]:
    """The x of Σ_j x_j node_jᵏ = value_k, k from 0, by elimination (Björck & Pereyra, Math. Comp. 24, 1970)."""
    x, n = values[:], len(nodes)
    for k in range(n - 1):
        for i in range(n - 1, k, -1):
            x[i] -= nodes[k] * x[i - 1]
    for k in range(n - 2, -1, -1):
        for i in range(k + 1, n):
            x[i] /= nodes[i] - nodes[i - k - 1]
        for i in range(k, n - 1):
            x[i] -= x[i + 1]
    return x
