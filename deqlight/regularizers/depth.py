"""Station: noise in training. Whole residual branches left out or shaken at random."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from ..errors import InputError, check_word
from ..terms import Slope
from ..types import Noise, Tensor
from .noise import Law, NoiseRegularizer, one_number
from .weighting import two_ways

__all__ = ["BranchNoise", "Schedule", "ShakeDrop", "StochasticDepth", "Whose"]

Schedule: TypeAlias = Literal["linear", "constant"]
"""How the probability of survival goes with depth."""

Whose: TypeAlias = Literal["sample", "batch"]
"""Whether each sample of a batch has noise of its own, or all have the same."""


@dataclass(frozen=True)
class BranchNoise(NoiseRegularizer):
    """A branch that survives with a probability, one draw for a whole branch; what becomes of the others differs.

    Args:
        survival: the probability p_L that the last branch survives.
        schedule: `linear` in depth, p_l = 1 − (l/L)(1 − p_L) for l = 1, …, L; or `constant`.
        per: whether each `sample` has draws of its own, or the `batch` has one, as published.
    """

    survival: float = 0.5
    schedule: Schedule = "linear"
    per: Whose = "sample"

    def check(self) -> None:
        """Refuse what is no probability, and other words."""
        name = type(self).__name__
        if not (0.0 < self.survival <= 1.0):
            raise InputError(f"{name} got survival={self.survival}, a probability; it must lie in (0, 1]")
        check_word(name, "schedule", self.schedule, ("linear", "constant"))
        check_whose(name, self.per, self.noise)

    @property
    def idle(self) -> bool:
        """Whether all survive."""
        return self.survival == 1.0

    @property
    def kind(self) -> Noise:
        """Scalar: one Brownian motion moves a sample."""
        return "scalar"

    def like(self, y: Tensor) -> Tensor:
        """One number for each sample, or for the batch."""
        return one_number(y, whole=self.per == "batch")

    def survives(self, depth: float) -> float:
        """The probability at a depth in (0, 1]."""
        return self.survival if self.schedule == "constant" else 1.0 - depth * (1.0 - self.survival)

    @abstractmethod
    def spread(self, p: float) -> float:
        """The standard deviation of what a branch is multiplied by."""

    def moments(self, f: Tensor, y: Tensor, depth: float) -> Slope:
        """P f, and the spread times f."""
        p = self.survives(depth)
        return Slope(p * f, self.spread(p) * f)


@dataclass(frozen=True)
class StochasticDepth(BranchNoise):
    """Stochastic depth: u + b f with b = 1 with probability p_l, else 0; in evaluation u + p_l f.

    Drift p f, diffusion √(p(1 − p)) f, by one Brownian motion for each sample. With `per="batch"` a branch that is left
    out is not evaluated, and its parameters get a gradient of zero.

    Args:
        survival: the probability p_L that the last branch survives.
        schedule: `linear` in depth, p_l = 1 − (l/L)(1 − p_L) for l = 1, …, L; or `constant`.
        per: whether each `sample` has draws of its own, or the `batch` has one, as published.

    Reference: Huang, Sun, Liu, Sedra & Weinberger, Deep Networks with Stochastic Depth, ECCV 2016 (arXiv 1603.09382);
    Lu, Zhong, Li & Dong, ICML 2018 (arXiv 1710.10121).
    """

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """B f."""
        return f * (numbers[0] < self.survives(depth)).to(f.dtype)

    def spread(self, p: float) -> float:
        """√(p(1 − p))."""
        return math.sqrt(p * (1.0 - p))

    def skips(self, numbers: tuple[Tensor, ...], depth: float) -> bool:
        """Whether the whole batch leaves the branch out."""
        return self.per == "batch" and float(numbers[0].flatten()[0]) >= self.survives(depth)


@dataclass(frozen=True)
class ShakeDrop(BranchNoise):
    """ShakeDrop: u + (b + α − bα) f, backward (b + β − bβ), b as in stochastic depth, α in [−1, 1], β in [0, 1].

    Drift p f; the variance of the factor is p + (1 − p)/3 − p². In evaluation u + p f.

    Args:
        survival: the probability p_L that the last branch is not shaken.
        schedule: `linear` in depth, p_l = 1 − (l/L)(1 − p_L) for l = 1, …, L; or `constant`.
        per: whether each `sample` has draws of its own, or the `batch` has one, as published.

    Reference: Yamada, Iwamura, Akiba & Kise, IEEE Access 7 (2019) (arXiv 1802.02375).
    """

    @property
    def draws(self) -> int:
        """Three: b, α, β."""
        return 3

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """The branch times b + α − bα, its gradient times b + β − bβ."""
        b = (numbers[0] < self.survives(depth)).to(f.dtype)
        forward, backward = (torch.where(b > 0, b, other) for other in (2.0 * numbers[1] - 1.0, numbers[2]))
        return two_ways(f, forward, backward)

    def spread(self, p: float) -> float:
        """√(p + (1 − p)/3 − p²)."""
        return math.sqrt(p + (1.0 - p) / 3.0 - p * p)


def check_whose(name: str, per: Whose, noise: Law) -> None:
    """Refuse other words, and gaussian noise for a batch as a whole.

    Raises:
        InputError: for these.
    """
    check_word(name, "per", per, ("sample", "batch"))
    if per == "batch" and noise == "gaussian":
        raise InputError(
            f"{name} got per='batch' with gaussian noise; the equation has a Brownian motion for each sample: use "
            "per='sample'"
        )
