"""Station: how much noise at which time, its arithmetic. A formula is written once, for floats and for tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..errors import InputError, ShapeError
from ..types import Tensor, Time

__all__ = ["Number", "constant", "inside", "ratio"]

Number = TypeVar("Number", float, Tensor, Time)
"""A Python float, reckoned in float64 by `math`, or a tensor of any shape, reckoned in its dtype on its device."""

SLACK = 16
"""By how many units of rounding a number may lie outside of a span and be meant for its end."""


@dataclass(frozen=True)
class _Function:
    """A function of one number, for both kinds."""

    of_tensor: Callable[[Tensor], Tensor]
    of_float: Callable[[float], float]

    def __call__(self, x: Number) -> Number:
        return self.of_tensor(x) if isinstance(x, Tensor) else self.of_float(x)


def _log(x: float) -> float:
    return math.log(x) if x else -math.inf


def _unbounded(fn: Callable[[float], float]) -> Callable[[float], float]:
    """The function, infinite where a float is too small for it, as it is of a tensor."""

    def bounded(x: float) -> float:
        try:
            return fn(x)
        except OverflowError:
            return math.inf

    return bounded


exp = _Function(torch.exp, _unbounded(math.exp))
expm1 = _Function(torch.expm1, _unbounded(math.expm1))
log = _Function(torch.log, _log)
log1p = _Function(torch.log1p, math.log1p)
sqrt = _Function(torch.sqrt, math.sqrt)
sin = _Function(torch.sin, math.sin)
atan = _Function(torch.atan, math.atan)
sinh = _Function(torch.sinh, _unbounded(math.sinh))
asinh = _Function(torch.asinh, math.asinh)


def at_most(x: Number, high: float) -> Number:
    """The number, or `high` where it is larger."""
    return x.clamp(max=high) if isinstance(x, Tensor) else min(x, high)


def ratio(a: Number, b: Number) -> Number:
    """A / b; by a float zero as by that of a tensor: infinite, or NaN."""
    if isinstance(b, Tensor) or b:
        return a / b
    return a * math.inf


def constant(value: float, like: Number) -> Number:
    """The value, as a number of the kind and shape of `like`."""
    return torch.full_like(like, value) if isinstance(like, Tensor) else value


def inside(what: str, x: Number, low: float, high: float | None = None) -> Number:
    """The number, where it lies in a span, up to rounding; a tensor is NaN elsewhere, which costs no read of a device.

    Args:
        what: whose number and which, such as "VP got t"; begins the message.
        x: the number.
        low: where the span begins.
        high: where it ends; None where it only has to be finite.

    Raises:
        InputError: for a float outside the span.
        ShapeError: for a tensor that is not of floats.
    """
    if isinstance(x, Tensor):
        if not x.is_floating_point():
            raise ShapeError(f"{what} of dtype {x.dtype}; it needs floats: .to(torch.float32)")
        held = x.clamp(low, high)
        return torch.where((x - held).abs() <= SLACK * torch.finfo(x.dtype).eps * held.abs(), held, torch.nan)
    kept = max(x, low) if high is None else min(max(x, low), high)
    if not abs(x - kept) <= SLACK * sys.float_info.epsilon * abs(kept):
        span = f"from {low:g} on, where it is finite" if high is None else f"from {low:g} to {high:g}"
        raise InputError(f"{what}={x:g}; the schedule is defined {span}: stay within its ends")
    return kept
