"""Station: the vector field, where its numbers must stay positive: each is the softplus of what is learnt."""

from __future__ import annotations

import math

from ..errors import InputError

__all__ = ["softplus_start"]


def softplus_start(name: str, word: str, value: float) -> float:
    """The number whose softplus is `value`, the argument `word` of the class `name`.

    Raises:
        InputError: for a value that is not positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} got {word}={value:g}; it must be positive and finite")
    return value + math.log(-math.expm1(-value))
