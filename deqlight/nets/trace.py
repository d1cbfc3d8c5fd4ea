"""Station: between a network and a likelihood: the trace of a field's Jacobian, exact or estimated, of each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, cast, get_args

import torch

from ..errors import InputError, check_word
from ..terms.augmented import Rate
from ..terms.derivative import pulled
from ..types import State, Tensor, Time

__all__ = ["Exact", "Hutchinson", "Law", "Trace"]

Law: TypeAlias = Literal["rademacher", "normal"]
"""What a random direction is made of: signs, or standard normal numbers."""


class Trace(ABC):
    """How the divergence of a field is found, which is the trace of its Jacobian; a value that configs name."""

    @abstractmethod
    def rates(self, create_graph: bool) -> Sequence[Rate]:
        """What a solve integrates beside the state: rates whose mean is the divergence.

        Args:
            create_graph: whether the divergence is to be differentiated.
        """


@dataclass(frozen=True)
class Exact(Trace):
    """Every diagonal entry of the Jacobian: a pass backwards for each number of a sample.

    Args:
        chunk: how many passes are made at once. More are faster, and take the memory; from 2 on, layers must have a way
            back that torch can vectorise: 1 goes with all.

    Raises:
        InputError: for a chunk below 1.
    """

    chunk: int = 8

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise InputError(f"Exact got chunk={self.chunk}; it must be at least 1")

    def rates(self, create_graph: bool) -> Sequence[Rate]:
        """One."""
        return (_Diagonal(self.chunk, create_graph),)


@dataclass(frozen=True)
class Hutchinson(Trace):
    """Unbiased: the mean of vᵀJv over random directions v, each kept for the whole solve; a pass backwards for each.

    A direction is a function of the key in force and the sample, whatever its batch (`deqlight.brownian.keyed`). With
    signs the error is that of the entries off the diagonal alone, and none for a diagonal Jacobian.

    Args:
        draws: how many directions.
        law: `rademacher`, or `normal`, whose variance is never less.

    Raises:
        InputError: for no draw, and another law.

    Reference: Hutchinson, Communications in Statistics 1990; in solves, Grathwohl et al., FFJORD, ICLR 2019 (arXiv
    1810.01367).
    """

    draws: int = 1
    law: Law = "rademacher"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"Hutchinson got draws={self.draws}; it must be at least 1")
        check_word("Hutchinson", "law", self.law, get_args(Law))

    def rates(self, create_graph: bool) -> Sequence[Rate]:
        """One for each direction."""
        return [_Along(self.law, create_graph) for _ in range(self.draws)]


@dataclass(frozen=True)
class _Diagonal(Rate):
    """The sum of the diagonal entries."""

    derives: ClassVar[bool] = True

    chunk: int
    create_graph: bool

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """The divergence, `(batch,)`."""
        y, f = _single(y), _single(f)
        size = f[0].numel()
        total = f.new_zeros(len(f))
        for start in range(0, size, self.chunk):
            count = min(self.chunk, size - start)
            places = torch.arange(start, start + count, device=f.device)
            ways = torch.nn.functional.one_hot(places, size).to(f.dtype)
            ways = ways.reshape(count, 1, *f.shape[1:]).expand(count, *f.shape)
            back = _pulled_together(f, y, ways, self.create_graph).reshape(count, len(f), size)
            total = total + back.gather(2, places[:, None, None].expand(count, len(f), 1)).sum((0, 2))
        return total


def _pulled_together(f: Tensor, y: Tensor, ways: Tensor, create_graph: bool) -> Tensor:
    """Jᵀw for each of several w, `(count, batch, *state)`."""
    if len(ways) == 1:
        return pulled(f, y, (ways[0],), create_graph=create_graph)[0][None]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True, "is_grads_batched": True}
    return torch.autograd.grad(f, y, ways, create_graph=create_graph, **options)[0]


@dataclass(frozen=True)
class _Along(Rate):
    """vᵀJv for a random direction."""

    noisy: ClassVar[bool] = True
    derives: ClassVar[bool] = True

    law: Law
    create_graph: bool

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """The estimate, `(batch,)`."""
        y, f, way = _single(y), _single(f), _single(cast(State, direction))
        if self.law == "rademacher":
            way = torch.where(way < 0, -1.0, 1.0).to(way)
        return (pulled(f, y, (way,), create_graph=self.create_graph)[0] * way).flatten(1).sum(1)


def _single(y: State) -> Tensor:
    return cast(Tensor, y)  # what `log_likelihood` solves has one leaf
