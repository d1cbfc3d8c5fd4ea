"""Station 0, the noise: its numbers, drawn on the CPU, each sample's by itself or those of all samples at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Law", "drawn_apart", "drawn_together"]

Law: TypeAlias = Literal["uniform", "normal"]

Numbers: TypeAlias = NDArray[np.floating[Any]]

CHUNK = 1 << 15
"""How many numbers are made at once: what they need fits into a cache."""

HALF, UNIT, TURN, MINUS_TWO = (np.float32(x) for x in (0.5, 2.0**-32, 2.0 * np.pi * 2.0**-32, -2.0))


def drawn_apart(law: Law, shape: Sequence[int], double: bool, base: int, ids: Sequence[int]) -> Numbers:
    """Numbers of each sample by Philox's generator, whose key is (base, sample), so that samples are known one by one.

    Args:
        law: in [0, 1), or standard normal.
        shape: `(batch, count, *noise)`.
        double: whether in float64; else in float32.
        base: what all samples have in common, 64 bits.
        ids: the samples.

    Returns:
        The numbers, which lie in memory as `(count, batch, *noise)`: a step reads one place of all samples.
    """
    batch, count, *noise = shape
    numbers: Numbers = np.empty((count, batch, *noise), np.float64 if double else np.float32).swapaxes(0, 1)
    bits, size = np.random.Philox(key=np.array([base, 0], dtype=np.uint64)), math.prod(shape[1:])
    state, rows = bits.state, max(1, CHUNK // max(size, 1))
    block = np.empty((min(rows, batch), size + size % 2), numbers.dtype)
    draw, finish = _law(law, bits, double)
    for start in range(0, batch, rows):
        part = ids[start : start + rows]
        for row, sample in zip(block, part, strict=False):
            state["state"]["key"][1] = sample % 2**64
            bits.state = state
            draw(row)
        found = block[: len(part)]
        finish(found)
        numbers[start : start + rows] = found[:, :size].reshape(len(part), count, *noise)
    return numbers


def drawn_together(law: Law, shape: Sequence[int], double: bool, seed: int) -> Numbers:
    """Numbers of all samples from one generator, at less cost; see `drawn_apart`."""
    batch, count, *noise = shape
    size, bits = math.prod(shape), np.random.SFC64(np.random.SeedSequence(seed))
    numbers: Numbers = np.empty(size + size % 2, np.float64 if double else np.float32)
    draw, finish = _law(law, bits, double)
    for start in range(0, size, CHUNK):
        part = numbers[start : start + CHUNK]
        draw(part)
        finish(part[None])
    return cast(Numbers, numbers[:size].reshape(count, batch, *noise).swapaxes(0, 1))


def _law(law: Law, bits: np.random.BitGenerator, double: bool) -> tuple[Callable[[Any], object], Callable[[Any], None]]:
    """What fills an array of even length, and what then makes numbers of a law of an array of such rows."""
    if law == "normal" and not double:
        return lambda row: np.copyto(row.view(np.uint64), bits.random_raw(row.size // 2)), _normal
    generator = np.random.Generator(bits)
    draw = generator.standard_normal if law == "normal" else generator.random
    return lambda row: draw(dtype=row.dtype, out=row), lambda rows: None


def _normal(rows: NDArray[np.float32]) -> None:
    """Make standard normal numbers of random bits, in place, by Box and Muller's transformation: `(rows, 2n)`.

    Several times as fast as methods that reject, which cannot do many at once. A number is a function of 64 bits of its
    own row, one half before the middle of it, one behind; the largest there is is 6.8.

    Reference: Box & Muller, Ann. Math. Statist. 29 (1958).
    """
    middle = rows.shape[1] // 2
    bits = rows.view(np.uint32)
    radius, angle = bits[:, :middle].astype(np.float32), bits[:, middle:].astype(np.float32)
    radius += HALF  # none is zero
    radius *= UNIT
    np.log(radius, out=radius)
    radius *= MINUS_TWO
    np.sqrt(radius, out=radius)
    angle *= TURN
    np.multiply(np.cos(angle), radius, out=rows[:, :middle])
    np.multiply(np.sin(angle), radius, out=rows[:, middle:])
