"""Station: the measuring bench. Samplers with noise, and the noise that they are told: the same in every run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..brownian import Increment, Path
from ..solvers import SolverInfo
from ..states import axpy, each, root
from ..terms import Noised, ReverseSDE
from ..types import State, Tensor, Time

__all__ = ["Told", "denoises", "draws", "told"]

LEVELS = tuple(float(n) for n in range(1, 10))
"""The levels that a term knows of before a solve tells it others."""


def denoises(info: SolverInfo) -> bool:
    """Whether a solver is a sampler, whose time is the noise."""
    return any(issubclass(kind, Noised) for kind in info.terms)


def draws(info: SolverInfo) -> bool:
    """Whether it is one that draws noise."""
    return ReverseSDE in info.terms


@dataclass(frozen=True)
class Told(Path):
    """A path whose steps all have the same two normal numbers, whatever their length; each sample has its own.

    Attributes:
        z: those of W, shaped as the noise.
        z2: those of its time integral, given W.
    """

    z: State
    z2: State

    def increment(self, t0: Time, t1: Time) -> Increment:
        """W = z √h, and U with its own share z₂."""
        h = t1 - t0
        w = each(lambda leaf: leaf * root(h), self.z)
        return Increment(w, each(lambda a, b: h * (0.5 * a + b * root(h) / 12**0.5), w, self.z2))

    def rows(self, index: Tensor) -> Path:
        """The numbers of the samples `index` alone."""
        return Told(each(lambda leaf: leaf[index], self.z), each(lambda leaf: leaf[index], self.z2))


def told(term: ReverseSDE, y0: State) -> ReverseSDE:
    """The term with such a path for a state like `y0`, and with levels to share churn out among."""
    z = each(_waves, y0)
    return term._replace(path=Told(z, axpy(-0.5, z, each(torch.ones_like, y0))), levels=LEVELS)


def _waves(leaf: Tensor) -> Tensor:
    """Numbers of either sign, all different."""
    return torch.sin(torch.arange(leaf.numel(), dtype=leaf.dtype, device=leaf.device) + 1).reshape(leaf.shape)
