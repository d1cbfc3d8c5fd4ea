"""Station: the metrics. Does doubt tell the samples that belong to no class from those that do?"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from ..types import Tensor

__all__ = ["AUPR", "AUROC", "FPR95", "OUTSIDE", "Detection"]

OUTSIDE = -1
"""The class number of a sample that belongs to no class: it is out of the distribution of the training data."""


class Detection(Metric, ABC):
    """How well one kind of doubt detects the outside samples; over all ranks, exact, with ties counted half.

    Only the order of doubts counts, so that they may have any scale. Without samples of both kinds it is NaN.

    Args:
        doubt: the name of the doubt, one of those that `update` gets.
    """

    full_state_update = False
    doubts: list[Tensor]
    outsides: list[Tensor]

    def __init__(self, doubt: str) -> None:
        super().__init__()
        self.doubt = doubt
        self.add_state("doubts", [], dist_reduce_fx="cat")
        self.add_state("outsides", [], dist_reduce_fx="cat")

    @abstractmethod
    def measure(self, ranks: Tensor, outside: Tensor) -> Tensor:
        """What it is, from the ranks of the doubts in [0, 1] `(samples,)`, and which samples are outside."""

    def update(self, doubts: Mapping[str, Tensor], target: Tensor) -> None:
        """Add the doubts of a batch by name, and its class numbers, each `(batch,)`."""
        self.doubts.append(doubts[self.doubt])
        self.outsides.append(target == OUTSIDE)

    def compute(self) -> Tensor:
        """The measure of all that was added."""
        doubts, outside = (_joined(parts) for parts in (self.doubts, self.outsides))
        if bool(outside.all()) or not bool(outside.any()):
            return doubts.new_tensor(math.nan)
        # by their places: torchmetrics would squash numbers above 1, and so make large ones alike
        values, places = torch.unique(doubts, return_inverse=True)
        return self.measure(places.double() / len(values), outside)


class AUROC(Detection):
    """The area under the receiver operating characteristic: how often an outside sample has more doubt than another."""

    def measure(self, ranks: Tensor, outside: Tensor) -> Tensor:
        """½ for doubts that tell nothing, 1 for perfect ones."""
        return binary_auroc(ranks, outside.long())


class AUPR(Detection):
    """The area under the curve of precision and recall, as average precision; the outside samples are the positives.

    Doubts that tell nothing have the share of outside samples.
    """

    def measure(self, ranks: Tensor, outside: Tensor) -> Tensor:
        """The average precision."""
        return binary_average_precision(ranks, outside.long())


class FPR95(Detection):
    """The share of outside samples that pass, where the bar is so high that 95 % of the others pass.

    The false positive rate at a true positive rate of 95 %, inside samples being the positives, as in Hendrycks &
    Gimpel 2017 (arXiv 1610.02136) and Liang et al. 2018 (arXiv 1706.02690).
    """

    def measure(self, ranks: Tensor, outside: Tensor) -> Tensor:
        """0 for perfect doubts."""
        inside = ranks[~outside].sort().values
        bar = inside[-(-PASSING * len(inside) // 100) - 1]  # rounded up
        return (ranks[outside] <= bar).double().mean()


PASSING = 95
"""How many of a hundred inside samples must pass."""


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """What was added on this rank, or what the ranks have put together."""
    return parts if isinstance(parts, Tensor) else torch.cat(parts)
