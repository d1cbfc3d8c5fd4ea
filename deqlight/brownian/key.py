"""Station 0, the noise: what it is a function of. Equal keys give equal numbers, on any batch, world and device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

import torch

from ..errors import InputError, ShapeError
from ..types import Tensor
from .drawing import Law, drawn_apart, drawn_together

__all__ = ["Key", "Per", "Stream", "keyed", "lasting_stream", "next_stream", "redrawn"]

Per: TypeAlias = Literal["sample", "rank"]
"""Whose a key is: each sample's, whatever its batch, or that of all samples of a process together, at less cost."""

SEEDS = 2**63
"""How many seeds there are."""

LASTING = -1
"""The number of the stream that all solves under a key share; their own are counted from 0."""


@dataclass(frozen=True)
class Key:
    """What noise is a function of: the seed of the run, the step of the training, and the sample.

    Attributes:
        seed: the run's seed.
        step: the number of the training step, or any other number that tells draws apart.
        ids: what each sample is known by, `(batch,)` integers, such as its position in the data set; None for
            0, 1, 2, … in the order of the batch.
        draw: which of several draws for the same samples, as in an ensemble.
        rank: the process, for noise that is keyed by it.
    """

    seed: int
    step: int = 0
    ids: Tensor | None = None
    draw: int = 0
    rank: int = 0


class Stream:
    """The random numbers of one solve. Each call gives further ones; a stream made anew gives the same.

    Args:
        key: what the numbers are a function of.
        number: which of the streams of this key.
        per: whether each sample has numbers of its own, drawn on the CPU, or all are drawn at once, on their device.
    """

    def __init__(self, key: Key, number: int, per: Per = "sample") -> None:
        self.key, self.number, self.per = key, number, per
        self._calls = 0

    def shared(self) -> Stream:
        """The same stream for a batch as a whole, whatever its samples: no ids."""
        return Stream(replace(self.key, ids=None), self.number, self.per)

    def normal(self, count: int, like: Tensor) -> Tensor:
        """`count` standard normal numbers for each number of `like` `(batch, *noise)`: `(batch, count, *noise)`.

        Raises:
            ShapeError: if the key has ids for another number of samples.
        """
        return self._draw("normal", count, like)

    def uniform(self, count: int, like: Tensor) -> Tensor:
        """`count` numbers in [0, 1) for each number of `like` `(batch, *noise)`: `(batch, count, *noise)`."""
        return self._draw("uniform", count, like)

    def entropy(self, batch: int) -> list[int]:
        """A seed for each of `batch` samples, for generators of other libraries."""
        self._calls += 1
        base = self._base(self.key.rank if self.per == "rank" else "")
        return [_hashed(base, sample) % SEEDS for sample in self._ids(batch)]

    def _draw(self, law: Law, count: int, like: Tensor) -> Tensor:
        self._calls += 1
        batch, double = like.shape[0], like.dtype == torch.float64
        shape = (batch, count, *like.shape[1:])
        if self.per == "sample":
            numbers = drawn_apart(law, shape, double, self._base(""), self._ids(batch))
        elif like.device.type == "cpu":
            numbers = drawn_together(law, shape, double, self._base(self.key.rank))
        else:
            generator = torch.Generator(like.device).manual_seed(self._base(self.key.rank) % SEEDS)
            draw, shape = torch.randn if law == "normal" else torch.rand, (count, batch, *like.shape[1:])
            return draw(shape, generator=generator, dtype=like.dtype, device=like.device).transpose(0, 1)
        return torch.from_numpy(numbers).to(like.device, like.dtype, non_blocking=True)

    def _ids(self, batch: int) -> list[int]:
        ids = self.key.ids
        if ids is None:
            return list(range(batch))
        if ids.shape != (batch,):
            raise ShapeError(
                f"the noise of a batch of {batch} samples got ids of shape {tuple(ids.shape)}; it needs one for each "
                f"sample: keyed(Key(seed, step, ids)) with ids ({batch},)"
            )
        told: list[int] = ids.tolist()
        return told

    def _base(self, rank: int | str) -> int:
        key = self.key
        return _hashed(key.seed, key.step, key.draw, self.number, self._calls, rank)


@dataclass
class _InForce:
    key: Key
    streams: int = 0


_keys: list[_InForce] = []  # a plain stack; one thread solves at a time


@contextmanager
def keyed(key: Key) -> Iterator[None]:
    """Draw all noise inside the block by this key: the first solve its first stream, the next the next.

    >>> from deqlight.brownian import Key, keyed, next_stream
    >>> with keyed(Key(seed=0, step=7, ids=torch.tensor([17, 4]))):
    ...     pair = next_stream().normal(3, torch.zeros(2, 1))
    >>> with keyed(Key(seed=0, step=7, ids=torch.tensor([17]))):
    ...     alone = next_stream().normal(3, torch.zeros(1, 1))
    >>> torch.equal(pair[:1], alone)
    True
    """
    if not isinstance(key, Key):
        raise InputError(f"keyed got {key!r}; it needs a Key(seed, step, ids)")
    _keys.append(_InForce(key))
    try:
        yield
    finally:
        _keys.pop()


@contextmanager
def redrawn(draw: int) -> Iterator[None]:
    """Draw all noise inside the block by the key in force, as its draw number `draw`: another path of each sample.

    The first solve inside gets the first stream again. Outside of `keyed` all draws differ as it is.
    """
    if not _keys:
        yield
        return
    with keyed(replace(_keys[-1].key, draw=draw)):
        yield


def next_stream(per: Per = "sample", seed: int | None = None) -> Stream:
    """The next stream of the key in force, or of a seed.

    Args:
        per: see `Stream`.
        seed: a seed of its own, whatever key is in force: always the same stream. None takes the key in force;
            outside of `keyed`, one with a seed drawn from torch's generator, which follows `torch.manual_seed`.
    """
    if seed is not None:
        return Stream(Key(seed), 0, per)
    if not _keys:
        return Stream(Key(int(torch.randint(SEEDS - 1, ()))), 0, per)
    now = _keys[-1]
    now.streams += 1
    return Stream(now.key, now.streams - 1, per)


def lasting_stream(per: Per = "sample") -> Stream:
    """A stream of the key in force, one for all solves under it, and no other's; a new one outside of `keyed`."""
    return Stream(_keys[-1].key, LASTING, per) if _keys else next_stream(per)


def _hashed(*parts: int | str) -> int:
    """64 bits that every part changes."""
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest(), "little")
