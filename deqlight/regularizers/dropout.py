"""Station: noise in training. Numbers of a residual branch left out at random, for each step or for a while."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..terms import Slope
from ..types import Noise, Tensor
from .noise import NoiseRegularizer

__all__ = ["Dropout", "MaskNoise", "RandomBatch"]


@dataclass(frozen=True)
class MaskNoise(NoiseRegularizer):
    """A residual branch with some of its numbers left out; how long a mask stays differs.

    Args:
        p: the probability of leaving a number out.
    """

    p: float = 0.5

    @property
    def idle(self) -> bool:
        """Whether nothing is left out."""
        return self.p == 0.0

    @property
    def draws(self) -> int:
        """One."""
        return 1

    @property
    def kind(self) -> Noise:
        """Diagonal."""
        return "diagonal"

    def like(self, y: Tensor) -> Tensor:
        """The state."""
        return y

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """F ⊙ b/(1 − p)."""
        return f * _kept(numbers[0], self.p)

    def moments(self, f: Tensor, y: Tensor, depth: float) -> Slope:
        """F and √(p/(1 − p)) f; of a mask that stays, over a step of length 1."""
        return Slope(f, math.sqrt(self.p / (1.0 - self.p)) * f)


@dataclass(frozen=True)
class Dropout(MaskNoise):
    """Dropout in the residual branch: u + f ⊙ b/(1 − p), with b = 1 or, with probability p, 0, for each number.

    Drift f, diffusion √(p/(1 − p)) f, diagonal: each number has a Brownian motion of its own.

    Args:
        p: the probability of leaving a number out.

    Reference: Srivastava et al., JMLR 15 (2014); Liu et al. 2019 (arXiv 1906.02355); Sun, Tao & Du 2018 (arXiv
    1812.00174).
    """

    def check(self) -> None:
        """Refuse what is no probability below 1."""
        _check_probability("Dropout", self.p)


@dataclass(frozen=True)
class RandomBatch(MaskNoise):
    """Dropout in continuous time: the mask of `Dropout` is drawn anew on each interval, and constant in between.

    The field is a random one whose mean is f; as the intervals shrink, its solution tends to that of f, with an error
    of the order of their square root (random-batch methods). The ends of intervals are jumps of the field, at which
    measured steps end; it goes with any solver and controller.

    Args:
        p: the probability of leaving a number out.
        interval: how long a mask stays.

    Raises:
        InputError: for gaussian noise, or the scaling of a stochastic equation: its limit is the ordinary one.

    Reference: Jin, Li & Liu, Random batch methods for interacting particle systems, J. Comput. Phys. 400 (2020); for
    dropout in continuous time arXiv 2510.13134.
    """

    interval: float = 0.1

    def check(self) -> None:
        """Refuse what is no probability, no length, or no random-batch method."""
        _check_probability("RandomBatch", self.p)
        if not (self.interval > 0 and math.isfinite(self.interval)):
            raise InputError(f"RandomBatch got interval={self.interval}; it must be above 0")
        if self.noise != "discrete" or self.scaling != "ode":
            raise InputError(
                f"RandomBatch got noise={self.noise!r}, scaling={self.scaling!r}; its masks are discrete and its limit "
                "is the ordinary equation: leave both as they are, or use Dropout"
            )

    def cell(self, middle: float) -> int | None:
        """The interval that a time lies in."""
        return math.floor(middle / self.interval)

    def edges(self, low: float, high: float) -> tuple[float, ...]:
        """The multiples of the interval between two times."""
        first = math.floor(low / self.interval) + 1
        last = math.ceil(high / self.interval)
        return tuple(t for t in (n * self.interval for n in range(first, last)) if low < t < high)


def _kept(numbers: Tensor, p: float) -> Tensor:
    return (numbers >= p).to(numbers.dtype) / (1.0 - p)


def _check_probability(name: str, p: Any) -> None:
    if not (isinstance(p, int | float) and 0.0 <= p < 1.0):
        raise InputError(f"{name} got p={p!r}, the probability of leaving out; it must lie in [0, 1)")
