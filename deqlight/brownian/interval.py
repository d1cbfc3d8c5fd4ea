"""Station 0, the noise anywhere: Brownian motion that can be asked for any interval of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..states import each, leaves
from ..types import State, Tensor, Time
from .base import LEVY, Brownian, Grid, Increment, Path
from .key import Per, next_stream
from .levy import area_given

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval(Brownian):
    """Brownian motion over any interval, by torchsde's `BrownianInterval`: for measured steps, own times, refinement.

    Each sample has one of its own, seeded by the key, so that its path depends on nothing else; slower than
    `Increments`. Intervals are split as they are asked for: W over an interval is the sum of W over its parts, always;
    the path between depends on which intervals were asked for. A Lévy area is drawn for each interval, given its W and
    U: those of an interval and of its parts agree in law, not path by path.

    Args:
        key: `sample` keys each sample's path by its id; `rank` draws those of a process together.
        seed: a seed of its own, which gives the same path in every solve; None takes the key in force (see `keyed`).

    Raises:
        InputError: without torchsde; for an interval outside the solve.

    Reference: Kidger, Foster, Li & Lyons, Efficient and Accurate Gradients for Neural SDEs, NeurIPS 2021
    (arXiv 2105.13493), §4.
    """

    key: Per = "sample"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.key not in ("sample", "rank"):
            raise InputError(f"Interval got key={self.key!r}; it must be 'sample' or 'rank'")

    def draw(self, like: State, grid: Grid, area: int) -> Path:
        """The path between the first and the last time of the grid."""
        stream, ends = next_stream(self.key, self.seed), (min(grid.times), max(grid.times))
        parts = []
        for leaf in leaves(like):
            batch, rows = len(leaf), 1 if self.key == "sample" else len(leaf)
            seeds = stream.entropy(batch)[: batch if self.key == "sample" else 1]
            motions = [_motion(ends, (rows, *leaf.shape[1:]), leaf, seed, area) for seed in seeds]
            parts.append(_Leaf(tuple(motions), tuple(seeds), area, ends))
        return _Anywhere(tuple(parts), isinstance(like, tuple))


@dataclass(frozen=True)
class _Leaf:
    """The Brownian motions of one leaf of the noise: one for each sample, or one for all."""

    motions: tuple[Any, ...]
    seeds: tuple[int, ...]
    area: int
    ends: tuple[float, float]

    def increment(self, start: Sequence[float], end: Sequence[float]) -> Increment:
        """What each did; `start` and `end` have one time for each motion."""
        found = [self._one(i, t0, t1) for i, (t0, t1) in enumerate(zip(start, end, strict=True))]
        w, u, a = (None if parts[0] is None else torch.cat(parts) for parts in zip(*found, strict=True))
        return Increment(w, u, a)  # type: ignore[arg-type]  # W is there

    def _one(self, i: int, t0: float, t1: float) -> Increment:
        low, high = min(t0, t1), max(t0, t1)
        slack = 1e-9 * (self.ends[1] - self.ends[0])
        if low < self.ends[0] - slack or high > self.ends[1] + slack:
            raise InputError(
                f"Interval knows its path from {self.ends[0]:g} to {self.ends[1]:g}, and was asked for that from "
                f"{t0:g} to {t1:g}"
            )
        low, high = max(low, self.ends[0]), min(high, self.ends[1])
        if not self.area:
            found = Increment(self.motions[i](low, high))
        else:
            w, u = self.motions[i](low, high, return_U=True)
            found = Increment(w, u, self._area(i, low, high, w, u) if self.area == LEVY else None)
        return found if t1 >= t0 else found.reversed(high - low)

    def _area(self, i: int, low: float, high: float, w: Tensor, u: Tensor) -> Tensor:
        text = f"{self.seeds[i]}/{low!r}/{high!r}".encode()
        seed = int.from_bytes(blake2b(text, digest_size=7).digest(), "little")
        normal = torch.randn((*w.shape, w.shape[-1]), generator=torch.Generator().manual_seed(seed), dtype=w.dtype)
        return area_given(w, u, w.new_tensor(high - low).reshape([1] * w.dim()), normal.to(w.device))

    def rows(self, index: Sequence[int]) -> _Leaf:
        """Those of some samples alone."""
        return _Leaf(tuple(self.motions[i] for i in index), tuple(self.seeds[i] for i in index), self.area, self.ends)


@dataclass(frozen=True)
class _Anywhere(Path):
    """A path that is drawn as it is asked for.

    Attributes:
        parts: of each leaf of the noise.
        several: whether the noise is a tuple.
        picked: which samples of the batch that was drawn this is a path of; None for all.
    """

    parts: tuple[_Leaf, ...]
    several: bool
    picked: tuple[int, ...] | None = None

    def increment(self, t0: Time, t1: Time) -> Increment:
        """What it did between two times, or between two times of each sample."""
        found = [self._of(part, t0, t1) for part in self.parts]
        if not self.several:
            return found[0]
        w, u, _ = zip(*found, strict=True)
        return Increment(w, None if u[0] is None else u)

    def rows(self, index: Tensor) -> Path:
        """The path of the samples `index` alone."""
        places = tuple(index.tolist())
        if self._together(self.parts[0]):
            before = self.picked
            picked = places if before is None else tuple(before[i] for i in places)
            return _Anywhere(self.parts, self.several, picked)
        return _Anywhere(tuple(part.rows(places) for part in self.parts), self.several)

    def _together(self, part: _Leaf) -> bool:
        return len(part.motions) == 1 and part.motions[0].shape[0] > 1

    def _of(self, part: _Leaf, t0: Time, t1: Time) -> Increment:
        start, end = _on_host(t0), _on_host(t1)
        if not self._together(part):
            count = len(part.motions)
            return part.increment(np.broadcast_to(start, count).tolist(), np.broadcast_to(end, count).tolist())
        if len(start) > 1 or len(end) > 1:
            raise InputError(
                "Interval(key='rank') draws the paths of all samples together, and these have times of their own; use "
                "key='sample'"
            )
        found = part.increment(start.tolist(), end.tolist())
        if self.picked is None:
            return found
        index = torch.as_tensor(self.picked)
        return Increment(*(None if x is None else each(lambda leaf: leaf[index.to(leaf.device)], x) for x in found))  # type: ignore[arg-type]


def _motion(ends: tuple[float, float], shape: tuple[int, ...], leaf: Tensor, seed: int, area: int) -> Any:
    try:
        from torchsde import BrownianInterval
    except ImportError as error:
        raise InputError("Interval needs torchsde, which is not installed: pip install torchsde") from error
    kind = "space-time" if area else "none"
    return BrownianInterval(
        *ends, size=shape, dtype=leaf.dtype, device=leaf.device, entropy=seed, levy_area_approximation=kind
    )


def _on_host(t: Time) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A time, or those of all samples, on the host."""
    return np.asarray(t.detach().cpu() if isinstance(t, Tensor) else t, dtype=np.float64).ravel()
