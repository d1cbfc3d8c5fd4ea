"""Station: the metrics. How far two sets of features are apart, were they normal."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor
from .two_samples import TwoSamples

__all__ = ["FrechetDistance", "frechet"]


class FrechetDistance(TwoSamples):
    """The squared Fréchet distance of two normal distributions with the means and covariances of two sets of features.

    With the features of an Inception network it is the FID. This one has the features that it is given, and no number
    of it is comparable to a published FID: name it by its features. It depends on the number of samples, too; with
    fewer than there are features, covariances are singular, and it says little.

    For the FID itself install torchmetrics[image], which brings torchvision and fetches the weights, and put
    `torchmetrics.image.fid.FrechetInceptionDistance(feature=2048, normalize=True)` in this one's place. It is updated
    the same, with colour images in [0, 1]; `feature_extractor_weights_path` names the file of weights that are there.

    Sums are kept in float64, so that memory does not grow with the number of samples.

    Args:
        channels: how many features a sample has.
        features: the network that makes them, such as `DepthFeatures`; None compares the samples themselves. See
            `TwoSamples`.

    Raises:
        InputError: for channels below 1.

    Reference: Dowson & Landau 1982; Heusel et al., NeurIPS 2017 (arXiv 1706.08500).
    """

    counts: Tensor
    sums: Tensor
    products: Tensor

    def __init__(self, channels: int, features: nn.Module | None = None) -> None:
        super().__init__(features)
        if channels < 1:
            raise InputError(f"FrechetDistance got channels={channels}; at least 1 is needed")
        self.channels = channels
        # generated samples first, true ones second; of known shape, for ranks without samples
        self.add_state("counts", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(2, channels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(2, channels, channels, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, vectors: Tensor, real: bool) -> None:
        """Add vectors `(batch, channels)` in float64."""
        self.check_width(vectors.shape[1], self.channels)
        kind = int(real)
        self.sums, self.products = self.sums.double(), self.products.double()  # .to(torch.bfloat16) rounds all states
        self.counts[kind] += len(vectors)
        self.sums[kind] += vectors.sum(0)
        self.products[kind] += vectors.T @ vectors

    def compute(self) -> Tensor:
        """The squared distance of all that was added.

        Raises:
            InputError: for fewer than two samples of a kind.
        """
        generated, real = self.counts.tolist()
        self.check_enough(real, generated)
        if not self.products.isfinite().all():
            return self.sums.new_tensor(math.nan)
        means = self.sums / self.counts[:, None]
        squares = means[:, :, None] * means[:, None, :]
        covariances = (self.products - self.counts[:, None, None] * squares) / (self.counts[:, None, None] - 1)
        return frechet(means[0], covariances[0], means[1], covariances[1])


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """The squared Fréchet (Wasserstein-2) distance of two normal distributions.

    It is |Δm|² + Tr(A + B − 2 (A B)^½). The last trace is the sum of the singular values of A^½ B^½: so only symmetric
    matrices need a root, and no singular covariance does harm.

    Args:
        mean: `(channels,)`.
        covariance: `(channels, channels)`.
        other_mean: `(channels,)`.
        other_covariance: `(channels, channels)`.
    """
    shared: Tensor = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()
    spread = covariance.trace() + other_covariance.trace() - 2 * shared
    return ((mean - other_mean).square().sum() + spread).clamp(min=0.0)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root; what rounding has made negative counts as zero."""
    values, axes = torch.linalg.eigh(covariance)
    return F.linear(axes * values.clamp(min=0.0).sqrt(), axes)
