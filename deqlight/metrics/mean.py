"""Station: the metrics. A mean over an epoch and all ranks, each batch by its size."""

from __future__ import annotations

import torch
from torchmetrics import Metric

from ..types import Tensor

__all__ = ["Mean"]


class Mean(Metric):
    """The weighted mean of numbers; NaN stays NaN.

    Not `torchmetrics.MeanMetric`, whose `nan_strategy="disable"` drops the weights, and whose others drop the NaN;
    nor `LightningModule.log(..., sync_dist=True)`, which rounds the ranks' mean batch size down to an integer.
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor | float, weight: Tensor | int) -> None:
        """Add the mean `value` of `weight` samples."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean of all that was added."""
        return self.total / self.weight
