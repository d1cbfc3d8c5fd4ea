"""Station: the metrics. How many samples of a generator look true, and how much of the truth it makes."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..errors import InputError
from ..types import Tensor
from .two_samples import Collected, distances

__all__ = ["PrecisionRecall"]


class PrecisionRecall(Collected):
    """Improved precision and recall: the share of each set's samples that lie within what the other one covers.

    A set covers a ball around each of its samples, which reaches to the sample's k-th nearest neighbour in the set.
    `precision` is the share of generated samples that the true ones cover: are they good? `recall` that of true samples
    which the generated ones cover: are they all there? Both grow with the number of samples: compare only equal ones.

    Args:
        k: which neighbour; 3 in the paper.
        features: a network whose features are compared; None compares the samples themselves. See `TwoSamples`.

    Raises:
        InputError: for k below 1; from `compute`, for k samples or fewer.

    Reference: Kynkäänniemi et al., Improved precision and recall metric for assessing generative models, NeurIPS 2019
    (arXiv 1904.06991); their features are those of VGG-16.
    """

    def __init__(self, k: int = 3, features: nn.Module | None = None) -> None:
        super().__init__(features)
        if k < 1:
            raise InputError(f"PrecisionRecall got k={k}; at least 1 is needed")
        self.k, self.least = k, k + 1

    def measure(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Precision and recall by name, from all samples, `(samples, channels)` each."""
        if not (real.isfinite().all() and generated.isfinite().all()):
            return dict.fromkeys(("precision", "recall"), real.new_tensor(math.nan))
        return {"precision": self._covered(generated, real), "recall": self._covered(real, generated)}

    def _covered(self, points: Tensor, by: Tensor) -> Tensor:
        """The share of the points that lie in a ball of the others."""
        reach = torch.cat([apart.kthvalue(self.k + 1, dim=1).values for apart in distances(by, by)])  # itself is first
        return torch.cat([(apart <= reach).any(1) for apart in distances(points, by)]).double().mean()
