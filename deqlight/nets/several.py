"""Station: the network that says several things of a sample: an ensemble, or draws of one that is stochastic."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..brownian import redrawn
from ..errors import InputError
from ..types import Tensor

__all__ = ["Draws", "Ensemble", "Several"]


class Several(nn.Module, ABC):
    """A classifier that says several things of a sample; together they are its predictive distribution."""

    @abstractmethod
    def passes(self, x: Tensor) -> Tensor:
        """The scores of each pass for a batch of inputs `(batch, …)`: `(draws, batch, classes)`."""

    def forward(self, x: Tensor) -> Tensor:
        """The logarithm of the mean probabilities, `(batch, classes)`: scores as those of any classifier."""
        logs = self.passes(x).log_softmax(-1)
        return logs.logsumexp(0) - math.log(len(logs))


class Ensemble(Several):
    """A deep ensemble: networks of one kind, each with a start of its own, trained on the same data.

    Trained by `ClassifyUncertain`, each member learns by its own loss, as it would alone.

    Args:
        members: the networks, each giving scores `(batch, classes)`. In a config, one and aliases of it:
            `members: [&net {…}, *net, *net]`.

    Raises:
        InputError: without members, or if two are one and the same.

    Reference: Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, NeurIPS 2017 (arXiv 1612.01474), without adversarial training.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members or len(set(map(id, members))) < len(members):
            raise InputError(f"Ensemble got {len(members)} members; it needs at least one, each a network of its own")
        self.members = nn.ModuleList(members)

    def passes(self, x: Tensor) -> Tensor:
        """What each member says, `(members, batch, classes)`."""
        return torch.stack([member(x) for member in self.members])


class Draws(Several):
    """A stochastic network, asked several times: noise at test time, averaged (a neural SDE, or noise regularisers).

    In training one draw a batch. Noise is a function of (seed, step, sample, draw), whatever the batch. Regularisers
    must say `at_test: true`; of a network without noise in evaluation all draws are the same.

    Args:
        net: the network, giving scores `(batch, classes)`.
        draws: how many draws in evaluation.

    Raises:
        InputError: for no draw.

    Reference: Liu et al., Neural SDE: Stabilizing Neural ODE Networks with Stochastic Noise, 2019 (arXiv 1906.02355).
    """

    def __init__(self, net: nn.Module, draws: int) -> None:
        super().__init__()
        self.net, self.draws = net, checked_draws("Draws", draws)

    def passes(self, x: Tensor) -> Tensor:
        """The scores of each draw, `(draws, batch, classes)`; one in training."""
        return several(lambda: self.net(x), 1 if self.training else self.draws)


def several(once: Callable[[], Tensor], draws: int) -> Tensor:
    """What `once` gives under each of several draws of the noise, `(draws, …)`."""
    found = []
    for draw in range(draws):
        with redrawn(draw):
            found.append(once())
    return torch.stack(found)


def checked_draws(name: str, draws: int) -> int:
    """`draws`, if there is one at least."""
    if draws < 1:
        raise InputError(f"{name} got draws={draws}; at least 1 is needed")
    return draws
