"""Station: the metrics. How far mass must be carried to make one set of samples the other, along random lines."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..types import Tensor
from .two_samples import CHUNK, Collected

__all__ = ["SlicedWasserstein"]


class SlicedWasserstein(Collected):
    """The sliced Wasserstein distance W_p: that of the samples' shadows on random lines, (mean of W_p^p)^(1/p).

    On each line it is exact, for unequal numbers of samples too. Even two sets of samples of the same distribution have
    a distance above zero, which falls with their number: compare it with that of two sets of true samples.

    Args:
        projections: how many lines.
        seed: which lines, evenly from all directions.
        p: 1 or 2.
        features: a network whose features are compared; None compares the samples themselves. See `TwoSamples`.

    Raises:
        InputError: for no projections, another p, or a seed below 0.

    Reference: Rabin et al. 2011, Wasserstein barycenter and its application to texture mixing; Bonneel et al. 2015.
    """

    least = 1

    def __init__(
        self, projections: int = 256, seed: int = 0, p: Literal[1, 2] = 2, features: nn.Module | None = None
    ) -> None:
        super().__init__(features)
        if projections < 1 or seed < 0 or p not in (1, 2):
            raise InputError(
                f"SlicedWasserstein got projections={projections}, seed={seed}, p={p}; it needs projections from 1, a "
                "seed from 0, and 1 or 2 as p"
            )
        self.projections, self.seed, self.p = projections, seed, p

    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """The distance of all samples, `(samples, channels)` each."""
        drawn = torch.from_numpy(np.random.default_rng(self.seed).standard_normal((self.projections, real.shape[1])))
        lines = (drawn / drawn.norm(dim=1, keepdim=True)).to(real)
        some = max(1, CHUNK // (len(real) + len(generated)))
        carried = [_carried(real @ part.T, generated @ part.T, self.p) for part in torch.split(lines, some)]
        return torch.cat(carried).mean() ** (1 / self.p)


def _carried(one: Tensor, other: Tensor, p: int) -> Tensor:
    """W_p^p on each line, from the shadows `(samples, lines)`: sorted, the first carry to the first."""
    one, other = one.sort(0).values, other.sort(0).values
    n, m = len(one), len(other)
    # each sample has m shares of n m, or n of them: a share goes from one to one
    ends: Tensor = torch.unique(torch.cat([m * torch.arange(1, n + 1), n * torch.arange(1, m + 1)])).to(one.device)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    shares = (ends - starts).double() / (n * m)
    return shares @ (one[starts // m] - other[starts // n]).abs().pow(p)
