"""Station: noise in training. Two branches that join in their mean, and at random only one of them is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..types import Tensor
from .depth import Whose, check_whose
from .noise import Reached, one_number
from .shake import BranchMix

__all__ = ["DropPath"]


@dataclass(frozen=True)
class DropPath(BranchMix):
    """Drop-path: a join of two branches is the mean of those that are live, α f₁ + (1 − α) f₂ with α one of 0, ½, 1.

    Local: each branch is dropped with probability p in each step, and of two that would be, one stays. Global: a sample
    sees one branch alone, through all of the network. Which of both is drawn for each sample, too. Drift ½ (f₁ + f₂),
    diffusion ½ √(2p − p²) (f₁ − f₂) of the local part, by one Brownian motion for each sample; the global part stays
    as long as the network is, and so has an ordinary equation for each branch as its limit. In evaluation α is ½,
    nothing is rescaled. Goes with fields of two branches, `Branches`, and comes first among regularisers.

    Args:
        p: the probability that a branch is dropped.
        columns: the share of the samples that see one branch alone, 0.5 as published; 0 is local drop-path.
        per: whether each `sample` has draws of its own, or the `batch` has one, as published.

    Raises:
        InputError: for what are no probabilities, and other words; for gaussian noise, or the scaling of a stochastic
            limit, with columns, which are no diffusion; from `wrap`, for fields of one branch.

    Reference: Larsson, Maire & Shakhnarovich, FractalNet, ICLR 2017 (arXiv 1605.07648), section 2.2.
    """

    p: float = 0.15
    columns: float = 0.5
    per: Whose = "sample"

    def check(self) -> None:
        """Refuse what is no probability, and columns in a stochastic limit."""
        if not 0.0 <= self.p < 1.0:
            raise InputError(f"DropPath got p={self.p}, a probability; it must lie in [0, 1)")
        if not 0.0 <= self.columns <= 1.0:
            raise InputError(f"DropPath got columns={self.columns}, a share; it must lie in [0, 1]")
        check_whose("DropPath", self.per, self.noise)
        if self.columns and (self.noise == "gaussian" or self.scaling == "sde"):
            raise InputError(
                f"DropPath got noise={self.noise!r}, scaling={self.scaling!r} with columns={self.columns}; a branch "
                "that is alone through all of the network is no diffusion: use columns=0"
            )

    @property
    def idle(self) -> bool:
        """Whether all branches are there, always."""
        return self.p == 0.0 and self.columns == 0.0

    @property
    def limit(self) -> Reached:
        """That of its scaling; with columns a random ordinary equation."""
        return "random ode" if self.columns else self.scaling

    @property
    def draws(self) -> int:
        """Three for each step: one for each branch, and which stays if none would."""
        return 3

    @property
    def lasting(self) -> int:
        """Two for the network: whether a branch is alone, and which."""
        return 2 if self.columns else 0

    @property
    def spread(self) -> float:
        """½ √(2p − p²) of the local part; ½ of the global one."""
        return 0.5 * math.sqrt((1.0 - self.columns) * self.p * (2.0 - self.p) + self.columns)

    def like(self, y: Tensor) -> Tensor:
        """One number for each sample, or for the batch."""
        return one_number(y, whole=self.per == "batch")

    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """The mean of the live ones of both branches `(batch, *state, 2)`."""
        one, two, stays, *rest = numbers
        first, second = one >= self.p, two >= self.p
        first = first | (~second & (stays < 0.5))
        second = second | ~first
        if rest:
            alone, which = rest[0] < self.columns, rest[1] < 0.5
            first, second = torch.where(alone, which, first), torch.where(alone, ~which, second)
        alpha = 0.5 * (1.0 + first.to(f.dtype) - second.to(f.dtype))
        left, right = f.unbind(-1)
        return alpha * left + (1.0 - alpha) * right
