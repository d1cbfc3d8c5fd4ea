"""Station: noise in training. Two branches mixed at random, and their gradients by other weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

from ..errors import InputError, check_word
from ..fields.branches import Branches
from ..terms import Slope
from ..terms.matrix import Matrix
from ..types import FieldFn, Noise, State, Tensor, Time
from .noise import NoiseRegularizer, one_number
from .weighting import two_ways

__all__ = ["BranchMix", "Level", "Mode", "ShakeShake"]

Mode: TypeAlias = Literal["shake", "even", "keep"]
"""The weight of the first branch in gradients: drawn anew, one half, or as in the forward pass."""

Level: TypeAlias = Literal["image", "batch"]
"""Whether each image of a batch has weights of its own, or all have the same."""


@dataclass(frozen=True)
class BranchMix(NoiseRegularizer):
    """The two branches of a field, `Branches`, with random weights that add up to 1, and whose mean is one half."""

    @property
    def idle(self) -> bool:
        """Never: two branches are mixed, or one leaves it out."""
        return False

    @property
    def kind(self) -> Noise:
        """Scalar: one Brownian motion moves a sample."""
        return "scalar"

    @property
    @abstractmethod
    def spread(self) -> float:
        """The standard deviation of a weight."""

    def moments(self, f: Tensor, y: Tensor, depth: float) -> Slope:
        """½ (f₁ + f₂), and the spread times f₁ − f₂."""
        first, second = f.unbind(-1)
        return Slope(0.5 * (first + second), self.spread * (first - second))

    def field(self, field: FieldFn | nn.Module) -> FieldFn | nn.Module:
        """Both branches of the field, as a matrix of two columns."""
        if not isinstance(field, Branches):
            raise InputError(
                f"{type(self).__name__} got the field {type(field).__name__}; it mixes the two branches of "
                "Branches(channels, block), and comes first among regularizers"
            )
        return Matrix(_Both(field), 2)


@dataclass(frozen=True)
class ShakeShake(BranchMix):
    """Shake-shake: u + α f₁ + (1 − α) f₂ with α uniform in [0, 1], whose gradient has a β of its own in place of α.

    Drift ½ (f₁ + f₂), diffusion (f₁ − f₂)/√12, by one Brownian motion for each sample. In evaluation α is ½. Goes with
    fields of two branches, `Branches`, and comes first among regularisers.

    Args:
        mode: the gradient's weight: `shake` draws β, `even` takes ½, `keep` takes α.
        level: whether each `image` has weights of its own, or the `batch` has one.

    Raises:
        InputError: for other words; for gaussian noise in another mode than `keep`, the gradient of an equation being
            what it is; from `wrap`, for fields of one branch.

    Reference: Gastaldi, Shake-Shake regularization, 2017 (arXiv 1705.07485); Lu, Zhong, Li & Dong, ICML 2018 (arXiv
    1710.10121).
    """

    mode: Mode = "shake"
    level: Level = "image"

    def check(self) -> None:
        """Refuse other words, and gaussian noise with a gradient of its own."""
        for what, got, known in (
            ("mode", self.mode, ("shake", "even", "keep")),
            ("level", self.level, ("image", "batch")),
        ):
            check_word("ShakeShake", what, got, known)
        if self.noise == "gaussian" and (self.mode != "keep" or self.level != "image"):
            raise InputError(
                f"ShakeShake got gaussian noise with mode={self.mode!r}, level={self.level!r}; the equation has the "
                "gradient of its own path, and a Brownian motion for each sample: use mode='keep', level='image'"
            )

    @property
    def draws(self) -> int:
        """Two: α, β."""
        return 2

    def like(self, y: Tensor) -> Tensor:
        """One number for each sample, or for the batch."""
        return one_number(y, whole=self.level == "batch")

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """α f₁ + (1 − α) f₂ of both branches `(batch, *state, 2)`."""
        alpha, drawn = numbers
        beta = {"shake": drawn, "even": torch.full_like(alpha, 0.5), "keep": alpha}[self.mode]
        first, second = f.unbind(-1)
        return two_ways(first, alpha, beta) + two_ways(second, 1.0 - alpha, 1.0 - beta)

    @property
    def spread(self) -> float:
        """1/√12, that of a uniform number."""
        return 1.0 / math.sqrt(12.0)


class _Both(nn.Module):
    """Both branches of a field, side by side."""

    def __init__(self, field: Branches) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Time, y: State) -> Tensor:
        """`(batch, *state, 2)`."""
        return self.field.both(t, y)  # type: ignore[arg-type]  # one tensor
