"""Station: the metrics. What two sets of samples are compared by: true ones, and those of a generator."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torchmetrics import Metric

from ..errors import InputError, ShapeError
from ..types import Tensor

__all__ = ["CHUNK", "Collected", "TwoSamples", "distances"]

CHUNK = 1 << 20
"""At most so many numbers are made at once of all pairs of samples: 8 MiB."""


class TwoSamples(Metric, ABC):
    """How far the samples of a generator are from true ones, of which `update` says which are which.

    Samples are compared as they are, each as a vector, or by features: what a network makes of them. A number belongs
    to its features, to the numbers of samples, and to the true samples it was measured against; none is comparable to a
    number in a publication that has other ones. Where a sample is not finite, neither is the number.

    Args:
        features: a network from samples `(batch, *sample)` to `(batch, *features)`. A frozen copy of it is used, which
            is neither trained nor saved with the metric. None compares the samples themselves.
    """

    full_state_update = False
    least = 2  # samples that are needed of each kind

    def __init__(self, features: nn.Module | None = None) -> None:
        super().__init__()
        self._frozen = None if features is None else _Frozen(features)

    @abstractmethod
    def add(self, vectors: Tensor, real: bool) -> None:
        """Add vectors `(batch, channels)` in float64."""

    def update(self, samples: Tensor, real: bool) -> None:
        """Add a batch of samples.

        Args:
            samples: `(batch, *sample)`.
            real: whether they are true ones, or a generator's.

        Raises:
            ShapeError: for samples that have no numbers, or another number of them than those before.
        """
        vectors = samples if self._frozen is None else self._frozen(samples)
        if vectors.dim() < 2 or not vectors[:1].numel():
            raise ShapeError(
                f"{type(self).__name__} got {'samples' if self._frozen is None else 'features'} of shape "
                f"{tuple(vectors.shape)}; it needs (batch, …), with at least one sample of at least one number"
            )
        self.add(vectors.detach().flatten(1).double(), real)

    def check_enough(self, real: int, generated: int) -> None:
        """Raise `InputError` where there are too few samples to compare."""
        if min(real, generated) < self.least:
            raise InputError(
                f"{type(self).__name__} got {real} true and {generated} generated samples; it needs at least "
                f"{self.least} of each"
            )

    def check_width(self, got: int, expected: int) -> None:
        """Raise `ShapeError` where a sample has another number of numbers than the others."""
        if got != expected:
            raise ShapeError(f"{type(self).__name__} got samples of {got} numbers; the others have {expected}")


class Collected(TwoSamples, ABC):
    """A comparison that needs all samples at once: eight bytes for each of their numbers, on every rank.

    Before they are compared they are put into an order of their own, so that the result is the same, to the last bit,
    however samples came in batches and on ranks.
    """

    real: list[Tensor]
    generated: list[Tensor]
    width: Tensor

    def __init__(self, features: nn.Module | None = None) -> None:
        super().__init__(features)
        self.set_dtype(torch.float64)  # what a rank without samples says that it has none of
        # flat: a rank without samples has a state of as many axes as the others, or they would wait for each other
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")
        self.add_state("width", torch.zeros((), dtype=torch.long), dist_reduce_fx="max")

    @abstractmethod
    def measure(self, real: Tensor, generated: Tensor) -> Tensor | Mapping[str, Tensor]:
        """What it is, from all samples, `(samples, channels)` each; in general not as many of both."""

    def add(self, vectors: Tensor, real: bool) -> None:
        """Add vectors `(batch, channels)` in float64."""
        if self.width:
            self.check_width(vectors.shape[1], int(self.width))
        self.width = self.width.new_tensor(vectors.shape[1])
        (self.real if real else self.generated).append(vectors.flatten())

    def compute(self) -> Tensor | Mapping[str, Tensor]:
        """The measure of all that was added.

        Raises:
            InputError: for too few samples.
        """
        real, generated = (_sorted(_rows(parts, int(self.width))) for parts in (self.real, self.generated))
        self.check_enough(len(real), len(generated))
        return self.measure(real, generated)


def distances(one: Tensor, other: Tensor) -> Iterator[Tensor]:
    """The distances of all samples `(samples, channels)` to all others, some rows `(rows, others)` at a time.

    By differences: equal samples are exactly 0 apart, which by scalar products they would not be.
    """
    for part in torch.split(one, max(1, CHUNK // len(other))):
        yield torch.cdist(part, other, compute_mode="donot_use_mm_for_euclid_dist")


class _Frozen:
    """A copy of a network that is only evaluated. Not a module: it would be trained and saved with what holds it."""

    def __init__(self, net: nn.Module) -> None:
        self._net = copy.deepcopy(net).eval().requires_grad_(False)

    def __call__(self, samples: Tensor) -> Tensor:
        """The features, in the network's own precision whatever that of the run."""
        parameter = next(self._net.parameters(), samples)
        with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
            return self._net.to(samples.device)(samples.to(parameter.dtype))  # type: ignore[no-any-return]


def _rows(parts: list[Tensor] | Tensor, width: int) -> Tensor:
    """What was added on this rank, or what the ranks have put together, `(samples, width)`."""
    if isinstance(parts, list):
        parts = torch.cat(parts) if parts else torch.empty(0)
    return parts.reshape(-1, max(width, 1))


def _sorted(vectors: Tensor) -> Tensor:
    """The rows in the order of their bytes, which is some order, but always the same."""
    numbers = np.ascontiguousarray(vectors.cpu().numpy())
    whole = numbers.view(np.dtype((np.void, numbers.itemsize * numbers.shape[1])))[:, 0]
    return vectors[torch.from_numpy(np.argsort(whole)).to(vectors.device)]
