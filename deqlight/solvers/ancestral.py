"""Station: the sampler with noise. Ancestral sampling, and DPM-Solver++ of the reverse equation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import check_word
from ..terms import ReverseSDE
from ..types import Carry, State
from .base import Step
from .denoising import data, mix
from .noisy import NoisySampler, drawing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

__all__ = ["DDPM", "SDEDPMpp2M"]


class DDPM(NoisySampler):
    """Ancestral sampling: y₁ = q² y₀ + (1 − q²) D + s z with q = ρ₁/ρ₀, between any two levels.

    The mean is that of the forward chain's posterior given that D are the data. s² is its variance, ρ₁² (1 − q²), or
    that of the forward step from ρ₁ to ρ₀, (α₀/α₁)² (ρ₀² − ρ₁²), which is larger. Order 1 of the law, one evaluation a
    step; on Gaussian data the mean is exact, and the variance too small or too large. With the posterior's it is
    `DDIM(1)`, and SDE-DPM-Solver++ of first order. Not to be confused with `EulerMaruyama`, whose mean is another.

    Args:
        variance: `posterior`, right for data that are one point, or `forward`, right for data that are a standard
            normal number; in the paper β̃ and β. The forward one knows α by the term's schedule, and has 1 without.

    Raises:
        InputError: for another variance.

    Reference: Ho, Jain & Abbeel, NeurIPS 2020 (arXiv 2006.11239), algorithm 2 and §3.2.
    """

    info = drawing(1, "Ho, Jain & Abbeel 2020, arXiv 2006.11239")

    def __init__(self, variance: Literal["posterior", "forward"] = "posterior") -> None:
        check_word("DDPM", "variance", variance, ("posterior", "forward"))
        self.variance = variance

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        share = (rho1 / rho0) ** 2
        std = rho1 * math.sqrt(1 - share)
        if self.variance == "forward":
            std = alpha_ratio(term, rho0, rho1) * math.sqrt(rho0**2 - rho1**2)
        estimate = data(rho0, y0, term.eps(rho0, y0))
        return Step(mix([share, 1 - share, std], [y0, estimate, term.normal(rho0, rho1)]))

    def __repr__(self) -> str:
        return f"DDPM(variance={self.variance!r})"

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Both."""
        return cls(), cls("forward")


class _Past(NamedTuple):
    """The data estimate of the step before, and the log-SNR that it was made at."""

    estimate: State
    lam: float


class SDEDPMpp2M(NoisySampler):
    """SDE-DPM-Solver++(2M): y₁ = q² y₀ + (1 − q²) (D + (D − D')/2r) + ρ₁ √(1 − q²) z, q = ρ₁/ρ₀, r = h₋₁/h in log-SNR.

    Order 2 of the law, one evaluation a step; the first step is `DDPM`'s, of order 1. Not to be confused with
    `DPMpp2M`, which draws no noise.

    Reference: Lu et al., DPM-Solver++, 2022 (arXiv 2211.01095), eq. 19.
    """

    info = drawing(2, "Lu et al. 2022, arXiv 2211.01095", steps=2)

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the estimate before, and where it was made."""
        lam, now, share = -math.log(rho0), data(rho0, y0, term.eps(rho0, y0)), (rho1 / rho0) ** 2
        new, z, past = rho1 * math.sqrt(1 - share), term.normal(rho0, rho1), _Past(now, lam)
        if carry is None:
            return Step(mix([share, 1 - share, new], [y0, now, z]), past)
        lean = (1 - share) * 0.5 * math.log(rho0 / rho1) / (lam - carry.lam)  # of 1/2r = h/2h₋₁
        return Step(mix([share, 1 - share + lean, -lean, new], [y0, now, carry.estimate, z]), past)


def alpha_ratio(term: ReverseSDE, rho0: float, rho1: float) -> float:
    """α₀/α₁, below 1 where the schedule makes the data smaller."""
    return 1.0 if term.schedule is None else term.schedule.scale(rho0) / term.schedule.scale(rho1)
