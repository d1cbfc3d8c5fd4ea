"""Station: the vector field in front of the noise: diffusions g(t, y) of stochastic equations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor, Time
from .positive import softplus_start

__all__ = ["AdditiveDiffusion", "MatrixDiffusion", "MultiplicativeDiffusion"]

Block = Callable[[int], nn.Module]


class AdditiveDiffusion(nn.Module):
    """g = σ, one number for all: the noise of a `StochasticStage` with `noise: additive`.

    Args:
        channels: channels of the state, which may have any; named so that a stage can make it.
        sigma: σ.
        learn: whether σ is learnt; it stays positive. Learnt with nothing that asks for noise, it shrinks.

    Raises:
        InputError: for a σ that is not positive and finite.
    """

    def __init__(self, channels: int, sigma: float = 0.1, learn: bool = False) -> None:
        super().__init__()
        self.raw = _started(type(self).__name__, sigma, learn)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """σ, shaped as `y` `(batch, channels, …)`."""
        return F.softplus(self.raw).to(y.dtype).expand_as(y)


class MultiplicativeDiffusion(nn.Module):
    """g = σ y: noise in proportion to the state, of a `StochasticStage` with `noise: diagonal`.

    Where the drift has the Lipschitz constant L and σ² > 2 L, perturbations die out almost surely: the linear equation
    du = a u dt + σ u dB grows as exp((a − σ²/2) t) (Itô).

    Args:
        channels: channels of the state, which may have any; named so that a stage can make it.
        sigma: σ.
        learn: whether σ is learnt; it stays positive.

    Raises:
        InputError: for a σ that is not positive and finite.

    Reference: Liu et al., Neural SDE: Stabilizing Neural ODE Networks with Stochastic Noise, 2019 (arXiv 1906.02355).
    """

    def __init__(self, channels: int, sigma: float = 0.1, learn: bool = False) -> None:
        super().__init__()
        self.raw = _started(type(self).__name__, sigma, learn)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """σ y, shaped as `y` `(batch, channels, …)`."""
        return F.softplus(self.raw).to(y.dtype) * y


class MatrixDiffusion(nn.Module):
    """g is a matrix: several sources of noise, and how each moves the state. For `noise: general`, or `additive`.

    Args:
        channels: channels of the state.
        sources: number of Brownian motions of a sample; those of the stage.
        block: makes the field of each source for a number of channels, such as `MLP` or `ConcatConv`.
        scale: a factor of all of them.

    Raises:
        InputError: for no source, or a scale that is not positive and finite.
    """

    def __init__(self, channels: int, sources: int, block: Block, scale: float = 0.1) -> None:
        super().__init__()
        if sources < 1:
            raise InputError(f"MatrixDiffusion got sources={sources}; at least 1 is needed")
        if not (scale > 0 and math.isfinite(scale)):
            raise InputError(f"MatrixDiffusion got scale={scale:g}; it must be positive and finite")
        self.columns = nn.ModuleList(block(channels) for _ in range(sources))
        self.scale = scale

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """The matrix, `(batch, channels, …, sources)`, at `y` `(batch, channels, …)`."""
        return self.scale * torch.stack([column(t, y) for column in self.columns], -1)


def _started(name: str, sigma: float, learn: bool) -> nn.Parameter:
    """The number whose softplus is σ."""
    start = torch.tensor(softplus_start(name, "sigma", sigma), dtype=torch.float64)
    return nn.Parameter(start.to(torch.get_default_dtype()), requires_grad=learn)
