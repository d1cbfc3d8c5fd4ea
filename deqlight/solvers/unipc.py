"""Station: the sampler. UniPC: a predictor, and a corrector that uses what the next step evaluates anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from ..errors import InputError, check_word
from ..states import as_float
from ..terms import Denoising, Term
from ..types import Carry, State, Time
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, data, mix

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["UniPC", "Variant"]

Variant: TypeAlias = Literal["bh1", "bh2"]
"""B(h) = h, or eʰ − 1, for the h that the exponents have."""

MOST = 3
"""The highest order of the predictor."""


class _Past(NamedTuple):
    """Data estimates at the predictions of this and earlier steps, the newest first, where, and where it all ends."""

    estimates: tuple[State, ...]
    lams: tuple[float, ...]
    end: float


class UniPC(DenoisingSolver):
    """The unified predictor–corrector: the network is asked at the prediction, and the prediction then corrected by it.

    The corrected state is not asked again, so that the corrector costs nothing: order p + 1 for a predictor of order p.
    One evaluation a step: that at the end of a step is the next one's first, and in the last, which has no corrector,
    there is none. The first steps have as many points as there are; a last step to 0 is of order 1. Without the
    corrector it is UniP, of order p. Not to be confused with `ABM3`, which evaluates the corrected state again.

    Args:
        order: p, 1 to 3.
        variant: `bh1` or `bh2`, the B(h) of the paper.
        correct: whether predictions are corrected.

    Raises:
        InputError: for other orders and variants.

    Reference: Zhao, Bai, Rao, Zhou & Lu, UniPC, NeurIPS 2023 (arXiv 2302.04867), with data prediction.
    """

    def __init__(self, order: int = 2, variant: Variant = "bh2", correct: bool = True) -> None:
        if not 1 <= order <= MOST:
            raise InputError(f"UniPC got order={order}; it has the orders 1 to {MOST}")
        check_word("UniPC", "variant", variant, ("bh1", "bh2"))
        self.order, self.variant, self.correct = order, variant, correct
        self.info = SolverInfo(
            order=order + correct,
            nfe_step=1,
            steps=order + 1,
            dense_order=min(order + correct, 2),
            terms=(Denoising,),
            reference="Zhao, Bai, Rao, Zhou & Lu 2023, arXiv 2302.04867",
        )

    def __repr__(self) -> str:
        return f"UniPC({self.order}, {self.variant!r}{'' if self.correct else ', correct=False'})"

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """Where the solve ends: the last step has no corrector."""
        return _Past((), (), as_float(t1))

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` are the estimates at this and earlier predictions, and where they were made."""
        past, lam = carry, -math.log(rho0)
        if not past.estimates:
            past = past._replace(estimates=(data(rho0, y0, term.vf(rho0, y0)),), lams=(lam,))
        elif past.lams[0] != lam:  # without a corrector the last step did not evaluate at its end
            past = self._seen(past, data(rho0, y0, term.vf(rho0, y0)), lam)
        if rho1 == 0.0:
            return Step(past.estimates[0], past)
        h, m = -math.log(rho1 / rho0), min(self.order, len(past.lams))
        ratios = [(at - lam) / h for at in past.lams[1:m]]
        predicted = self._moved(h, ratios, y0, past.estimates[:m])
        if not self.correct or rho1 == past.end:
            return Step(predicted, past)
        new = data(rho1, predicted, term.vf(rho1, predicted))
        corrected = self._moved(h, [*ratios, 1.0], y0, (*past.estimates[:m], new))
        return Step(corrected, self._seen(past, new, -math.log(rho1)))

    def _seen(self, past: _Past, new: State, lam: float) -> _Past:
        keep = self.order
        return past._replace(estimates=(new, *past.estimates)[:keep], lams=(lam, *past.lams)[:keep])

    def _moved(self, h: float, ratios: Sequence[float], y0: State, estimates: Sequence[State]) -> State:
        """y₀ moved on by h, with the estimates at λ₀ and at λ₀ + r h for each ratio r."""
        share = math.exp(-h)
        slopes = [weight / r for weight, r in zip(self._weights(h, ratios), ratios, strict=True)]
        return mix([share, 1 - share - sum(slopes), *slopes], [y0, *estimates])

    def _weights(self, h: float, ratios: Sequence[float]) -> list[float]:
        """B(h) times the ρ of the paper for each difference of estimates."""
        if not ratios:
            return []
        scale = -h if self.variant == "bh1" else math.expm1(-h)
        if len(ratios) == 1:
            return [-0.5 * scale]  # at two points ρ is ½, whatever the r
        powers = np.vander(np.array(ratios), len(ratios), increasing=True).T
        values, phi, factorial = [], math.expm1(-h) / -h - 1, 1.0
        for k in range(1, len(ratios) + 1):
            values.append(phi * factorial / scale)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        found: list[float] = (-scale * np.linalg.solve(powers, values)).tolist()
        return found

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """All orders with both variants, and the predictors alone."""
        return (
            *(cls(p, b) for p in (1, 2, 3) for b in ("bh1", "bh2")),
            *(cls(p, correct=False) for p in (1, 2, 3)),
        )
