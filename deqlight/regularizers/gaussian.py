"""Station: noise in training. Gaussian noise on the state or on a residual branch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch

from ..errors import InputError, check_word
from ..terms import Slope
from ..types import Noise, Tensor
from .noise import NoiseRegularizer

__all__ = ["GaussianNoise", "Target"]

Target: TypeAlias = Literal["additive", "state", "branch"]
"""What the noise is in proportion to."""


@dataclass(frozen=True)
class GaussianNoise(NoiseRegularizer):
    """Gaussian noise in each step: u + f + σξ (additive), u + f + σu ⊙ ξ (state), or u + f ⊙ (1 + σξ) (branch).

    Drift f, diffusion σ, σu, or σf, with a Brownian motion for each number. Multiplicative noise on the state with σ²
    above twice the field's Lipschitz constant makes perturbations die out (Liu et al. 2019, theorem 3).

    Args:
        sigma: σ, the standard deviation in a step of length 1.
        proportional: `additive` noise is in proportion to nothing, that on the `state` to it, that on the `branch` to
            the field's value.

    Reference: Liu et al., Neural SDE: Stabilizing Neural ODE Networks with Stochastic Noise, 2019 (arXiv 1906.02355);
    Camuto et al., NeurIPS 2020.
    """

    law: ClassVar[Literal["uniform", "normal"]] = "normal"

    sigma: float = 0.1
    proportional: Target = "additive"

    def check(self) -> None:
        """Refuse a negative σ, and other words."""
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise InputError(f"GaussianNoise got sigma={self.sigma}; it must be at least 0")
        check_word("GaussianNoise", "proportional", self.proportional, ("additive", "state", "branch"))

    @property
    def idle(self) -> bool:
        """Whether there is no noise."""
        return self.sigma == 0.0

    @property
    def draws(self) -> int:
        """One."""
        return 1

    @property
    def kind(self) -> Noise:
        """Additive, or diagonal."""
        return "additive" if self.proportional == "additive" else "diagonal"

    def like(self, y: Tensor) -> Tensor:
        """The state."""
        return y

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """F and the noise."""
        return f + self._size(f, y) * numbers[0]

    def moments(self, f: Tensor, y: Tensor, depth: float) -> Slope:
        """f, and the size of the noise."""
        return Slope(f, self._size(f, y))

    def _size(self, f: Tensor, y: Tensor) -> Tensor:
        if self.proportional == "additive":
            return torch.full_like(f, self.sigma, requires_grad=False)
        return self.sigma * (y if self.proportional == "state" else f)
