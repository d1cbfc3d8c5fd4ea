"""Station: the times that are asked for: one list for all samples, or one for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import InputError, ShapeError
from .types import Tensor, Time

__all__ = ["Array", "Asked", "OwnTimes", "Places", "Times", "beyond", "column", "read_times"]

Array: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

Asked: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | Sequence[Tensor] | Tensor
"""What a user may give as `ts`."""

ROUNDING = 4 * np.finfo(np.float64).eps
"""How far, relatively, two times may be apart that are meant to be one: an output and an event at the same time."""


@dataclass(frozen=True)
class OwnTimes:
    """Times of each sample, one after the other.

    Attributes:
        values: all times `(total,)`.
        offsets: where the times of each sample begin, and the end: `(batch + 1,)`.
        ragged: whether each sample may have another number of them; else they are a table `(time, batch)`.
    """

    values: Array
    offsets: Places
    ragged: bool

    def of(self, sample: int) -> Array:
        """The times of one sample."""
        return self.values[self.offsets[sample] : self.offsets[sample + 1]]

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(self.offsets) - 1

    def rows(self, index: Places) -> OwnTimes:
        """The times of the samples `index` alone."""
        return _joined([self.of(int(i)) for i in index], self.ragged)

    def table(self) -> Array:
        """Times `(time, batch)`; all samples have as many."""
        return cast(Array, self.values.reshape(self.batch, -1).T)

    def columns(self, leaf: Tensor) -> tuple[Tensor, ...]:
        """Each time of the table as a solver gets it, see `column`."""
        return tuple(column(times, leaf) for times in self.table())


Times: TypeAlias = tuple[Time, ...] | OwnTimes
"""Times of a problem: floats (0-d tensors where they need a gradient) for all samples, or those of each."""


def column(times: Array, leaf: Tensor) -> Tensor:
    """Times of all samples, on the host, as a solver gets them: float64 `(batch, 1, …)` with the axes of `leaf`."""
    return torch.tensor(times, dtype=torch.float64, device=leaf.device).reshape(-1, *[1] * (leaf.dim() - 1))


def beyond(t: Array, limit: Array, way: Array) -> NDArray[np.bool_]:
    """Whether times lie behind their limit along their way (1 or −1), by more than rounding; never behind NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(way * (t - limit) > ROUNDING * np.maximum(np.abs(t), np.abs(limit)))


def read_times(ts: Asked, batch: int) -> Times:
    """What was given as `ts`, checked: `(time,)` for all samples, `(time, batch)`, or a list of one list a sample.

    Raises:
        InputError: for times that are not finite and strictly monotone, or fewer than two; it names the place.
        ShapeError: if there are not as many lists as samples.
    """
    if isinstance(ts, Tensor):
        if ts.dim() not in (1, 2) or not ts.is_floating_point():
            raise InputError(
                f"ts got a tensor of shape {tuple(ts.shape)} and dtype {ts.dtype}; it needs floats of shape (time,), "
                "or (time, batch) for times of each sample"
            )
        return _shared(ts) if ts.dim() == 1 else _table(ts, batch)
    if len(ts) and _is_list(ts[0]):
        return _ragged(ts, batch)
    return _checked([float(t) for t in ts])  # type: ignore[arg-type]  # a list of numbers here


def _shared(ts: Tensor) -> tuple[Time, ...]:
    values = _checked(ts.tolist())
    return tuple(ts.unbind()) if ts.requires_grad else values


def _table(ts: Tensor, batch: int) -> OwnTimes:
    if ts.shape[1] != batch or not batch:
        raise ShapeError(
            f"ts got a tensor of shape {tuple(ts.shape)}; for a batch of {batch} it needs (time,) or (time, {batch})"
        )
    if ts.requires_grad:
        raise InputError("ts of each sample got a tensor that needs a gradient; times of all samples alone give one")
    return _joined([_own(column.tolist(), i) for i, column in enumerate(ts.unbind(1))], ragged=False)


def _ragged(ts: Sequence[object], batch: int) -> OwnTimes:
    if len(ts) != batch:
        raise ShapeError(f"ts got {len(ts)} lists of times for a batch of {batch}; it needs one for each sample")
    return _joined([_own([float(t) for t in own], i) for i, own in enumerate(ts)], ragged=True)  # type: ignore[attr-defined]


def _own(values: list[float], sample: int) -> Array:
    return np.asarray(_checked(values, f" of sample {sample}"))


def _joined(parts: list[Array], ragged: bool) -> OwnTimes:
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    return OwnTimes(np.concatenate([np.zeros(0), *parts]), offsets, ragged)


def _checked(values: list[float], whose: str = "") -> tuple[float, ...]:
    if len(values) < 2:
        raise InputError(f"ts{whose} got {len(values)} times; it needs at least two, the start and the end")
    forward = values[1] > values[0]
    for i, (t0, t1) in enumerate(pairwise(values)):
        if not (math.isfinite(t0) and math.isfinite(t1) and (t1 > t0 if forward else t1 < t0)):
            raise InputError(
                f"ts{whose} got {t0:g} at index {i} and {t1:g} at index {i + 1}; times must be finite and strictly "
                "increasing (or strictly decreasing throughout, to integrate back in time)"
            )
    return tuple(values)


def _is_list(entry: object) -> bool:
    return isinstance(entry, Sequence | np.ndarray) or (isinstance(entry, Tensor) and entry.dim() > 0)
