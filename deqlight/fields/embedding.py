"""Station: the vector field, told how much noise there is: noise labels as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..types import Tensor, Time

__all__ = ["FourierFeatures", "SinusoidalFeatures", "TimeEmbedding"]

Features = Callable[[int], nn.Module]
"""Makes features of noise labels, `(batch, channels)` of `(batch,)`, for a number of channels."""


class SinusoidalFeatures(nn.Module):
    """sin(s t ω_k) and cos(s t ω_k), where the ω_k go from 1 down to 1/`period` by equal ratios. Nothing is learnt.

    Args:
        channels: how many features, an even number; the sines come first.
        scale: s: 1000 for labels in [0, 1], 1 for the numbers 0, …, 999 of steps. The fastest wave has the length 2π/s.
        period: the slowest wave is so many times longer than the fastest.

    Raises:
        InputError: for an odd number of channels or fewer than 4, and for a scale or period that is not positive.

    Reference: Ho, Jain & Abbeel, Denoising Diffusion Probabilistic Models, NeurIPS 2020 (arXiv 2006.11239); Vaswani et
    al., Attention Is All You Need, NeurIPS 2017 (arXiv 1706.03762), §3.5.
    """

    def __init__(self, channels: int, scale: float = 1000.0, period: float = 10_000.0) -> None:
        super().__init__()
        _check("SinusoidalFeatures", channels, scale=scale, period=period)
        self.channels, self.scale, self.period = channels, scale, period

    def forward(self, t: Tensor) -> Tensor:
        """The features `(batch, channels)` of labels `(batch,)`, in their dtype."""
        half = self.channels // 2
        places = torch.arange(half, dtype=t.dtype, device=t.device) / (half - 1)
        return _waves(self.scale * t[:, None] * torch.exp(-math.log(self.period) * places))


class FourierFeatures(nn.Module):
    """sin(2π t w_k) and cos(2π t w_k) with w_k drawn once from N(0, `scale`²). Nothing is learnt.

    Frequencies are saved with the network. They are kept as bits, which a cast of the network to half precision leaves
    as they are: with rounded ones it would see other noise than it was trained on.

    Args:
        channels: how many features, an even number; the sines come first.
        scale: the standard deviation of the frequencies; 16 in the reference, for the labels ln σ.

    Raises:
        InputError: for an odd number of channels or fewer than 4, and for a scale that is not positive.

    Reference: Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, ICLR 2021 (arXiv
    2011.13456), appendix C; Tancik et al., Fourier Features, NeurIPS 2020 (arXiv 2006.10739).
    """

    bits: Tensor

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        _check("FourierFeatures", channels, scale=scale)
        frequencies = scale * torch.randn(channels // 2, dtype=torch.float32)
        self.register_buffer("bits", frequencies.view(torch.int32))

    @property
    def frequencies(self) -> Tensor:
        """The w_k, `(channels / 2,)`, in float32."""
        return self.bits.view(torch.float32)

    def forward(self, t: Tensor) -> Tensor:
        """The features `(batch, channels)` of labels `(batch,)`, in their dtype."""
        return _waves(2.0 * math.pi * t[:, None] * self.frequencies.to(t.dtype))


class TimeEmbedding(nn.Module):
    """Noise labels as vectors: features, a linear layer, SiLU, a linear layer.

    Features are computed in float32, or float64 for such labels, whatever the precision of the network: in half
    precision neighbouring labels would have the same.

    Args:
        channels: how many features.
        width: channels of the result.
        features: makes the features for a number of channels: `SinusoidalFeatures` or `FourierFeatures`.

    Raises:
        ShapeError: from `forward`, for labels that are not one for each sample, or one for all.
    """

    def __init__(self, channels: int, width: int, features: Features = SinusoidalFeatures) -> None:
        super().__init__()
        self.features = features(channels)
        self.first, self.last = nn.Linear(channels, width), nn.Linear(width, width)

    def forward(self, t: Time) -> Tensor:
        """Vectors `(batch, width)` of labels `(batch,)` or `(batch, 1, …)`; `(1, width)` of a number or `()`."""
        weight = self.first.weight
        if not isinstance(t, Tensor):
            t = torch.full((1,), t, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
        elif t.shape[1:].numel() != 1:
            raise ShapeError(f"TimeEmbedding got labels of shape {tuple(t.shape)}; it needs (batch,) or (batch, 1, …)")
        t = t.reshape(-1).to(torch.promote_types(t.dtype, torch.float32))
        return self.last(F.silu(self.first(self.features(t).to(weight.dtype))))  # type: ignore[no-any-return]  # a module's call is untyped


def _waves(phases: Tensor) -> Tensor:
    return torch.cat([phases.sin(), phases.cos()], -1)


def _check(name: str, channels: int, **positive: float) -> None:
    if channels < 4 or channels % 2:
        raise InputError(f"{name} got channels={channels}; it needs an even number, at least 4")
    for what, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} got {what}={value:g}; it must be positive and finite")
