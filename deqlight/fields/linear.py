"""Station: the vector field, where it is linear and its flow is known: the stiff part of semilinear networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..states import like
from ..terms.flows import Diagonal, LinearFlow, only, phi
from ..types import State, Tensor, Time
from .positive import softplus_start

__all__ = ["ChannelDecay", "PeriodicDiffusion"]

DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))
"""The neighbours of a pixel, but for the sign."""


class ChannelDecay(Diagonal):
    """Each channel decays at a learnt rate of its own: L y = −softplus(r) y. Does not depend on time.

    In a `SemilinearStage`, exponential methods such as `ETD1` solve it exactly: a residual network whose features
    fade at rates of their own, stable at any depth.

    Args:
        channels: channels of the state, `(batch, channels, height, width)`.
        rate: the rate of every channel before training, above 0.

    Raises:
        InputError: for a rate that is not positive and finite.
    """

    def __init__(self, channels: int, rate: float = 1.0) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.full((channels, 1, 1), softplus_start("ChannelDecay", "rate", rate)))

    @property
    def diagonal(self) -> Tensor:
        """The rates, negative, `(channels, 1, 1)`."""
        return -F.softplus(self.raw)


class PeriodicDiffusion(LinearFlow):
    """Each channel diffuses between neighbouring pixels: L y = Σ w_d (y₊ − 2 y + y₋) − r y over four directions d.

    −L is a depthwise 3×3 convolution on the torus, symmetric and positive definite; each channel learns its w, r > 0.
    Its eigenvectors are waves: whatever is a function of L is one multiplication between two fast Fourier transforms,
    and reaches every pixel. Does not depend on time.

    Args:
        channels: channels of the state, `(batch, channels, height, width)`.
        rate: w and r of every channel before training, above 0.

    Raises:
        InputError: for a rate that is not positive and finite.

    Reference: Haber, Lensink, Treister & Ruthotto, IMEXnet, AAAI 2019 (arXiv 1903.02639).
    """

    def __init__(self, channels: int, rate: float = 0.1) -> None:
        super().__init__()
        start = softplus_start("PeriodicDiffusion", "rate", rate)
        self.raw = nn.Parameter(torch.full((channels, len(DIRECTIONS) + 1), start))

    def forward(self, t: Time, y: State) -> Tensor:
        """L y, by the convolution."""
        leaf, (*weights, decay) = only(self, y), self._coefficients()
        kernel = torch.zeros(len(decay), 1, 3, 3, dtype=decay.dtype, device=decay.device)
        kernel[:, 0, 1, 1] = -decay - 2 * sum(weights)
        for (down, right), weight in zip(DIRECTIONS, weights, strict=True):
            kernel[:, 0, 1 + down, 1 + right] = kernel[:, 0, 1 - down, 1 - right] = weight
        return F.conv2d(F.pad(leaf, (1, 1, 1, 1), mode="circular"), kernel.to(leaf.dtype), groups=len(decay))

    def phi(self, k: int, h: Time, y: State) -> Tensor:
        """φₖ(hL) y."""
        return self._of(lambda z: phi(k, z), h, only(self, y))

    def resolvent(self, h: Time) -> Callable[[State], State]:
        """(I − hL)⁻¹."""
        return lambda y: self._of(lambda z: 1.0 / (1.0 - z), h, only(self, y))

    def _of(self, function: Callable[[Tensor], Tensor], h: Time, y: Tensor) -> Tensor:
        """A function of hL, applied to `y`: half precision has no Fourier transforms, and is made float32."""
        wide = y.to(torch.promote_types(y.dtype, torch.float32))
        factor = function(like(h, wide) * self._eigenvalues(*y.shape[-2:]).to(wide.dtype))
        moved: Tensor = torch.fft.irfft2(factor * torch.fft.rfft2(wide), s=y.shape[-2:])
        return moved.to(y.dtype)

    def _eigenvalues(self, height: int, width: int) -> Tensor:
        """Those of L for the waves that `rfft2` knows, `(channels, height, width // 2 + 1)`."""
        *weights, decay = (c[:, None, None] for c in self._coefficients())
        rows = 2 * math.pi * torch.fft.fftfreq(height, device=decay.device, dtype=decay.dtype)[:, None]
        columns = 2 * math.pi * torch.fft.rfftfreq(width, device=decay.device, dtype=decay.dtype)
        total = -decay
        for (down, right), weight in zip(DIRECTIONS, weights, strict=True):
            total = total - weight * (2.0 - 2.0 * torch.cos(down * rows + right * columns))
        return total

    def _coefficients(self) -> tuple[Tensor, ...]:
        """The weights of the directions, then the decay: each `(channels,)` and positive."""
        return F.softplus(self.raw).unbind(1)
