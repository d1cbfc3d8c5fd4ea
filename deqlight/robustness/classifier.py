"""Station: the trial. What a network's task must say of itself to be tried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..types import Tensor

__all__ = ["Classifier"]


class Classifier(ABC):
    """A task whose network says probabilities of classes, whatever else it says of a sample."""

    @abstractmethod
    def logs(self, outputs: Any) -> Tensor:
        """The logarithm of each sample's probabilities, `(batch, classes)`, from what `forward` gave.

        Of a network that gives several draws, the logarithm of their mean. With gradients, which attacks follow.
        """
