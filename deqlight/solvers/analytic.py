"""Station: the sampler with noise. Analytic-DPM: the best variance that ancestral sampling can have."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import torch

from ..brownian import next_stream
from ..errors import InputError
from ..states import leaves
from ..terms import ReverseSDE
from ..types import Carry, FieldFn, State, Tensor
from .base import SolverInfo, Step
from .denoising import mix
from .noisy import NoisySampler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

__all__ = ["AnalyticDPM", "NoisePower", "noise_power"]

Power: TypeAlias = Callable[[float], float]
"""What E|ε|²/d is at a level ρ."""


@dataclass(frozen=True)
class NoisePower:
    """The power of a network's noise estimates at some levels; between them a straight line in log ρ, outside constant.

    Attributes:
        rhos: the levels, positive and increasing.
        powers: E|ε|²/d at each.

    Raises:
        InputError: for levels that are not in order, powers below 0, and other numbers of one than of the other.

    >>> NoisePower((0.1, 10.0), (0.0, 1.0))(1.0)
    0.5
    """

    rhos: Sequence[float]
    powers: Sequence[float]

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in pairwise(self.rhos)) and all(0 < rho < math.inf for rho in self.rhos)
        fits = len(self.rhos) == len(self.powers) > 0 and all(0 <= power < math.inf for power in self.powers)
        if not (rises and fits):
            raise InputError(
                f"NoisePower got rhos={list(self.rhos)}, powers={list(self.powers)}; levels are positive and increase, "
                "and each has a power of at least 0"
            )
        object.__setattr__(self, "rhos", tuple(map(float, self.rhos)))
        object.__setattr__(self, "powers", tuple(map(float, self.powers)))

    def __call__(self, rho: float) -> float:
        """The power at a level."""
        place = bisect_right(self.rhos, rho)
        if place in (0, len(self.rhos)):
            return self.powers[min(place, len(self.rhos) - 1)]
        (low, high), (a, b) = self.rhos[place - 1 : place + 1], self.powers[place - 1 : place + 1]
        return a + (b - a) * math.log(rho / low) / math.log(high / low)


@torch.no_grad()
def noise_power(field: FieldFn, x0: Tensor, rhos: Sequence[float], seed: int | None = None) -> NoisePower:
    """Measure the power of a field's noise estimates on data.

    Args:
        field: `(ρ, y) -> ε`.
        x0: data without noise, `(batch, *state)`.
        rhos: the levels, positive and increasing.
        seed: of the noise that is added; None takes the key in force (see `brownian.keyed`), in which each sample has
            noise of its own at each level, whatever its batch.
    """
    stream = next_stream("sample", seed)

    def power(rho: float) -> float:
        (eps,) = leaves(field(rho, x0 + rho * stream.normal(1, x0)[:, 0]))
        return float(eps.double().square().mean())

    levels = tuple(map(float, rhos))
    return NoisePower(levels, tuple(map(power, levels)))


class AnalyticDPM(NoisySampler):
    """Analytic-DPM: y₁ = D + √(ρ₁² − λ²) ε + s z with the best variance, s² = λ² + (ρ₀ − √(ρ₁² − λ²))² (1 − P(ρ₀)).

    λ² = η² ρ₁² (1 − ρ₁²/ρ₀²) is that of `DDIM(η)`, and `DDPM`'s for η = 1. What the data are, given y₀, has variance
    ρ₀² (1 − P) on average, P = E|ε|²/d, which others leave out. Order 1 of the law, one evaluation a step; with the P
    of Gaussian data that are alike in all directions it is exact in any number of steps. Not to be confused with
    learnt variances.

    Args:
        power: P, by level: a `NoisePower`, such as `noise_power` measures, or a function. Estimates above 1 count as 1.
            None is to be measured, which `deqlight sample` does; until then no step is taken.
        eta: η, from 0 to 1: 1 is Analytic-DDPM, 0 Analytic-DDIM, which draws noise too.
        radius: where all data lie between −radius and radius, the most that their deviation can be, which bounds s:
            1 for images from −1 to 1, as published. None, which is right for all data, bounds nothing.

    Raises:
        InputError: for a power that cannot be called, η outside of [0, 1], or a radius that is not positive; from a
            step, for no power.

    The published clip of the noise of the last two steps, for images of 256 values, is not there.

    Reference: Bao, Li, Zhu & Zhang, ICLR 2022 (arXiv 2201.06503), theorems 1 and 2.
    """

    def __init__(self, power: NoisePower | Power | None = None, eta: float = 1.0, radius: float | None = None) -> None:
        if power is not None and not callable(power):
            raise InputError(
                f"AnalyticDPM got power={power!r}; it needs NoisePower(rhos, powers), as noise_power(field, x0, rhos) "
                "measures it, or a function of ρ"
            )
        if not 0.0 <= eta <= 1.0 or not (radius is None or radius > 0.0):
            raise InputError(
                f"AnalyticDPM got eta={eta}, radius={radius}; η lies between 0 and 1, and the radius is positive, or "
                "None for data without bounds"
            )
        self.power, self.eta, self.radius = power, float(eta), radius
        self.info = SolverInfo(
            order=1,
            nfe_step=1,
            calculus="ito",
            strong_order={"additive": 1.0 if eta else 0.5},  # N numbers of size h each are √h in sum
            weak_order=1.0,
            terms=(ReverseSDE,),
            reference="Bao et al. 2022, arXiv 2201.06503",
        )

    def measured(self, power: Power) -> Self:
        """The same with this power."""
        return type(self)(power, self.eta, self.radius)

    def variance(self, rho0: float, rho1: float) -> float:
        """The variance s² of the noise of a step, in y.

        Raises:
            InputError: where no power was given.
        """
        if self.power is None:
            raise InputError(
                "AnalyticDPM got power=None, and steps by the power of the network's noise estimates; measure it once, "
                "AnalyticDPM(noise_power(field, x0, rhos)), or draw samples by deqlight sample, which does"
            )
        fresh = (self.eta * rho1) ** 2 * (1 - (rho1 / rho0) ** 2)
        moved = 1 - math.sqrt(rho1**2 - fresh) / rho0  # how much of the data's own spread goes into y₁
        spread = rho0**2 * max(1 - self.power(rho0), 0.0)
        return fresh + moved**2 * (spread if self.radius is None else min(spread, self.radius**2))

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        kept = rho1 * math.sqrt(1 - self.eta**2 * (1 - (rho1 / rho0) ** 2))
        new = math.sqrt(self.variance(rho0, rho1))
        return Step(mix([1.0, kept - rho0, new], [y0, term.eps(rho0, y0), term.normal(rho0, rho1)]))

    def __repr__(self) -> str:
        limit = "" if self.radius is None else f", radius={self.radius:g}"
        power = "power=None" if self.power is None else type(self.power).__name__
        return f"AnalyticDPM({power}, eta={self.eta:g}{limit})"

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Both, with the power of standard normal data."""
        rhos = [10 ** (k / 8) for k in range(-24, 25)]
        normal = NoisePower(rhos, [rho**2 / (1 + rho**2) for rho in rhos])
        return cls(normal), cls(normal, eta=0.0)
