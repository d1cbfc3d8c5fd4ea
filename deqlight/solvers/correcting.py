"""Station: the sampler. What predictors share whose correction is merged into the next prediction."""

from __future__ import annotations

from collections.abc import Sequence

from ..terms import Denoising
from .base import SolverInfo
from .denoising import capped

__all__ = ["corrected_info", "merged"]


def corrected_info(order: int, correct: bool, lower_final: bool, reference: str) -> SolverInfo:
    """What a predictor of some order claims: one order more with its corrector, at no further evaluation."""
    info = SolverInfo(
        order=order + correct,
        nfe_step=1,
        steps=order + 1,
        dense_order=min(order + correct, 2),
        terms=(Denoising,),
        reference=reference,
    )
    return capped(info, lower_final)


def merged(
    share: float, ahead: Sequence[float], known: int, corrected: Sequence[float] = (), predicted: Sequence[float] = ()
) -> tuple[float, ...]:
    """The weights of a step, the corrector of the step before it in them.

    The correction is the difference of the same step with and without the newest estimate, so that the state before,
    which both begin with, is not in it.

    Args:
        share: what the state is multiplied with.
        ahead: the weights of the prediction, the newest estimate's first.
        known: how many estimates there are.
        corrected: the weights of the step before with the newest estimate, which comes first; none for no correction.
        predicted: those of the same step without it, from the second newest on.
    """
    total = [*ahead, *[0.0] * (known - len(ahead))]
    for j, (new, old) in enumerate(zip(corrected, (0.0, *predicted), strict=bool(corrected))):
        total[j] += share * (new - old)
    return share, *total
