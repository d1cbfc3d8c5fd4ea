"""Station: the metrics. The negative log-likelihood of the true classes: a proper score of probabilities."""

from __future__ import annotations

import torch
from torchmetrics import Metric

from ..types import Tensor
from .detection import OUTSIDE

__all__ = ["NLL"]


class NLL(Metric):
    """The mean of −log p over all samples, p the probability given to the true class; in nats.

    Samples of the class number −1 belong to no class, and are left out.

    Probabilities below the smallest number of their dtype count as that, so that one sample does not make all infinite.
    """

    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add probabilities `(batch, classes)` and class numbers `(batch,)`."""
        inside = target != OUTSIDE
        own = preds[inside].gather(1, target[inside][:, None]).clamp(min=torch.finfo(preds.dtype).tiny)
        self.total -= own.double().log().sum()
        self.samples += inside.sum()

    def compute(self) -> Tensor:
        """The mean of all that was added."""
        return self.total / self.samples
