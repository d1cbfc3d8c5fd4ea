"""Station: the metrics. How far the mean kernels of two sets of samples are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..errors import InputError
from ..types import Tensor
from .two_samples import Collected, distances

__all__ = ["MMD"]

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
MEDIAN_OF = 1024


class MMD(Collected):
    """The squared maximum mean discrepancy, unbiased: its expectation is 0 for equal distributions, and only for them.

    So it may come out a little below zero. The kernel is the mean of exp(−d² / 2 (f h)²) over the factors f. Without a
    bandwidth, h is the median distance of true samples, of at most 1024 of them: not of the generator's, so that all
    generators are measured by the same kernel.

    Args:
        bandwidth: h, in the units of the samples; None takes the median.
        factors: the widths of the kernels, in bandwidths.
        features: a network whose features are compared; None compares the samples themselves. See `TwoSamples`.

    Raises:
        InputError: for widths that are not above 0; from `compute`, for a median of 0.

    Reference: Gretton et al., A kernel two-sample test, JMLR 2012, lemma 6. With a polynomial kernel and the features
    of an Inception network it would be KID, which torchmetrics has.
    """

    def __init__(
        self,
        bandwidth: float | None = None,
        factors: Sequence[float] = FACTORS,
        features: nn.Module | None = None,
    ) -> None:
        super().__init__(features)
        self.bandwidth, self.factors = bandwidth, tuple(factors)
        widths = [1.0 if bandwidth is None else bandwidth, *self.factors]
        if not self.factors or not all(0 < width < math.inf for width in widths):
            raise InputError(f"MMD got bandwidth={bandwidth}, factors={self.factors}; all must be above 0, and finite")

    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """The squared discrepancy of all samples, `(samples, channels)` each."""
        widths = real.new_tensor(self.factors) * (median_distance(real) if self.bandwidth is None else self.bandwidth)
        among = self._mean(real, real, widths, len(real)) + self._mean(generated, generated, widths, len(generated))
        return among - 2 * self._mean(real, generated, widths, 0)

    def _mean(self, one: Tensor, other: Tensor, widths: Tensor, same: int) -> Tensor:
        """The mean kernel of all pairs, but for those of a sample with itself, whose kernel is 1."""
        total = one.new_zeros(())
        for apart in distances(one, other):
            for width in widths:
                total += (-0.5 * (apart / width).square()).exp().sum() / len(widths)
        return (total - same) / (len(one) * len(other) - same)


def median_distance(samples: Tensor) -> Tensor:
    """The median distance of two samples, of at most 1024 that stand at equal distances in their order.

    Raises:
        InputError: where it is 0, so that it is no measure.
    """
    places = torch.linspace(0, len(samples) - 1, min(MEDIAN_OF, len(samples)), dtype=torch.float64).round().long()
    found = torch.pdist(samples[places.to(samples.device)]).median()
    if found == 0:
        raise InputError("MMD: most true samples are the same, and the median distance is 0; give a bandwidth")
    return found
