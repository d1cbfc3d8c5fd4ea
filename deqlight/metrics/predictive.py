"""Station: the metrics. What several draws of a stochastic classifier, or the members of an ensemble, say together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from ..errors import ShapeError
from ..types import Tensor

__all__ = ["Predictive"]


@dataclass(frozen=True)
class Predictive:
    """The predictive distribution of a batch, and four measures of doubt, in float64.

    Probabilities are averaged, not scores: the mean of the softmax, not the softmax of the mean.

    Attributes:
        scores: of each draw, `(draws, batch, classes)`; one draw is an ordinary classifier.

    Raises:
        ShapeError: for scores of another number of axes.

    >>> import torch
    >>> two = Predictive(torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]]))  # each is sure, of another class
    >>> [round(float(value), 2) for value in (*two.probabilities[0], two.entropy[0], two.information[0])]
    [0.5, 0.5, 0.69, 0.69]
    """

    scores: Tensor

    def __post_init__(self) -> None:
        if self.scores.dim() != 3 or not len(self.scores):
            raise ShapeError(
                f"Predictive got scores of shape {tuple(self.scores.shape)}; it needs (draws, batch, classes)"
            )

    @cached_property
    def logs(self) -> Tensor:
        """The logarithm of each draw's probabilities, `(draws, batch, classes)`."""
        return self.scores.detach().double().log_softmax(-1)

    @cached_property
    def mean(self) -> Tensor:
        """The logarithm of the mean probabilities, `(batch, classes)`."""
        return self.logs.logsumexp(0) - math.log(len(self.logs))

    @property
    def probabilities(self) -> Tensor:
        """The predictive mean, `(batch, classes)`."""
        return self.mean.exp()

    @property
    def variance(self) -> Tensor:
        """The variance of each class's probability over the draws, `(batch, classes)`."""
        return self.logs.exp().var(0, unbiased=False)

    @property
    def entropy(self) -> Tensor:
        """The entropy of the predictive mean, `(batch,)`, in nats: all doubt, that of the data included."""
        return _entropy(self.mean)

    @property
    def information(self) -> Tensor:
        """The mutual information of class and draw, `(batch,)`: the part of the entropy by which draws disagree."""
        return (self.entropy - _entropy(self.logs).mean(0)).clamp(min=0.0)

    def doubts(self) -> dict[str, Tensor]:
        """By name, what grows with doubt, `(batch,)`: to tell samples that belong to no class from the others.

        `confidence` is 1 − the largest mean probability; `variance` is summed over the classes. Of a single draw,
        variance and information are zero.
        """
        return {
            "confidence": self.mean.sort(-1).values[:, :-1].logsumexp(-1).exp(),  # 1 − p has no digits left near 0
            "entropy": self.entropy,
            "variance": self.variance.sum(-1),
            "information": self.information,
        }


DOUBTS = ("confidence", "entropy", "variance", "information")
"""The names of the doubts."""


def _entropy(logs: Tensor) -> Tensor:
    """The entropy over the last axis; a probability that vanished adds nothing."""
    p = logs.exp()
    return -torch.where(p > 0, p * logs, 0.0).sum(-1)
