"""Station: the network. Which noise goes with which data of a batch, when a generator is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import InputError
from ..types import Tensor

__all__ = ["Coupling", "Independent", "OptimalTransport"]


class Coupling(ABC):
    """Which noise goes with which data; a value that configs name."""

    @abstractmethod
    def paired(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The noise `(batch, *state)` in the order of the data of a batch."""


@dataclass(frozen=True)
class Independent(Coupling):
    """Any noise with any data."""

    def paired(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The noise as it is."""
        return eps


@dataclass(frozen=True)
class OptimalTransport(Coupling):
    """Within a batch, noise goes with the data that it is nearest to, all in all: paths cross less, flows are straight.

    The assignment is exact, by the library POT (`pip install deqlight[transport]`), on the CPU. The noise of a sample
    then depends on its batch, as it must.

    Raises:
        InputError: where POT is not installed.

    Reference: Tong et al., Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport,
    TMLR 2024, arXiv 2302.00482; Pooladian et al., ICML 2023, arXiv 2304.14772.
    """

    def __post_init__(self) -> None:
        if find_spec("ot") is None:
            raise InputError("OptimalTransport needs the library POT: pip install 'deqlight[transport]'")

    def paired(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The noise in the order in which the sum of squared distances is least."""
        import ot  # its first import takes seconds

        costs = ot.dist(*(part.detach().flatten(1).double().cpu().numpy() for part in (x0, eps)))
        plan = ot.emd([], [], costs)  # even weights on both sides: a permutation
        return eps[plan.argmax(1)]
