"""Station: the pace, its arithmetic. One formula serves one clock, clocks on the host, and clocks on a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

__all__ = ["Arithmetic", "Numbers", "arithmetic"]

Numbers: TypeAlias = Any
"""A quantity of each clock: a float for one clock, an array `(clocks,)` on the host, or such a float64 tensor."""


class Arithmetic(NamedTuple):
    """What a formula on clocks needs besides the operators, for one kind of numbers."""

    where: Callable[[Numbers, Numbers, Numbers], Numbers]
    clip: Callable[[Numbers, float, float], Numbers]
    floor: Callable[[Numbers], Numbers]
    log2: Callable[[Numbers], Numbers]
    isfinite: Callable[[Numbers], Numbers]


def _choose(condition: bool, a: float, b: float) -> float:
    return a if condition else b


def _clip(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x


_ONE = Arithmetic(_choose, _clip, math.floor, math.log2, math.isfinite)
_HOST = Arithmetic(np.where, np.clip, np.floor, np.log2, np.isfinite)
_DEVICE = Arithmetic(torch.where, torch.clip, torch.floor, torch.log2, torch.isfinite)
_KINDS: dict[type, Arithmetic] = {float: _ONE, np.ndarray: _HOST}


def arithmetic(x: Numbers) -> Arithmetic:
    """The arithmetic for numbers of the kind of `x`."""
    return _KINDS.get(type(x), _DEVICE)
