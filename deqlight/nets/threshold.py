"""Station: between a network and a sampler: data estimates that are kept where data lie."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ..errors import InputError
from ..states import beside, like
from ..terms.conditional import Conditional, rows_of
from ..types import Tensor, Time

__all__ = ["DynamicThreshold", "StaticThreshold", "Threshold", "Thresholded"]

Estimate: TypeAlias = Callable[[Time, Tensor], Tensor]
"""A field `(ρ, y) -> ε`."""


class Threshold(ABC):
    """Where data estimates are kept; a value that configs name. For pixels: latent variables have no such range."""

    @abstractmethod
    def bound(self, data: Tensor) -> Tensor:
        """The data estimates `(batch, *state)`, changed where they lie outside."""

    def around(self, field: Estimate) -> Thresholded:
        """A field `(ρ, y) -> ε` whose data estimate y − ρ ε is kept inside."""
        return Thresholded(field, self)


class Thresholded(Conditional):
    """ε + (D − D')/ρ: a field whose data estimate D = y − ρ ε becomes D', that of a threshold.

    Where D' = D the estimate of the noise is the field's to the last bit; at ρ = 0 it is always.

    Args:
        field: `(ρ, y) -> ε`, guided or not.
        threshold: where data are kept.
    """

    def __init__(self, field: Estimate, threshold: Threshold) -> None:
        super().__init__()
        self.field, self.threshold = field, threshold

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """The estimate in `y` `(batch, *state)` at ρ = `t`, shaped as `y`."""
        eps, rho = self.field(t, y), torch.as_tensor(like(t, y), dtype=y.dtype, device=y.device)
        data = y - rho * eps
        apart = (data - self.threshold.bound(data)) / rho.clamp(min=torch.finfo(y.dtype).tiny)
        return eps + torch.where(rho > 0, apart, 0.0)

    def rows(self, index: Tensor) -> Thresholded:
        """The field of the samples `index` alone."""
        return Thresholded(rows_of(self.field, index), self.threshold)


@dataclass(frozen=True)
class StaticThreshold(Threshold):
    """Data estimates are cut off at both ends of the data's range.

    Args:
        low: the lower end.
        high: the upper end.

    Raises:
        InputError: for ends that are not finite and in order.

    Reference: as `clip_denoised` in Ho, Jain & Abbeel, NeurIPS 2020 (arXiv 2006.11239); named in Saharia et al. 2022
    (arXiv 2205.11487), section 2.3.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InputError(f"StaticThreshold got low={self.low}, high={self.high}; finite numbers, the lower first")

    def bound(self, data: Tensor) -> Tensor:
        """Cut off."""
        return data.clamp(self.low, self.high)


@dataclass(frozen=True)
class DynamicThreshold(Threshold):
    """Data estimates are cut off at a quantile of each sample, and shrunk so that this becomes the end of the range.

    With s the quantile of |D| over a sample, or `most` where that is larger, D becomes clip(D, −s, s) · most/s. Against
    images that strong guidance drives into saturation.

    Args:
        quantile: which quantile, from 0 to 1.
        most: the end of the data's range, [−most, most].

    Raises:
        InputError: for what is no quantile, and an end that is not positive and finite.

    Reference: Saharia et al., Photorealistic Text-to-Image Diffusion Models, NeurIPS 2022 (arXiv 2205.11487), section
    2.3, where `most` is 1.
    """

    quantile: float = 0.995
    most: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.quantile <= 1.0:
            raise InputError(f"DynamicThreshold got quantile={self.quantile}; it must lie in [0, 1]; published: 0.995")
        if not 0.0 < self.most < math.inf:
            raise InputError(f"DynamicThreshold got most={self.most}; it must be positive and finite: 1 for [-1, 1]")

    def bound(self, data: Tensor) -> Tensor:
        """Cut off and shrunk, sample by sample; found in float32 at least."""
        wide = data.abs().flatten(1).to(torch.promote_types(data.dtype, torch.float32))
        size = beside(torch.quantile(wide, self.quantile, 1).clamp(min=self.most).to(data.dtype), data)
        return torch.maximum(torch.minimum(data, size), -size) * (self.most / size)
