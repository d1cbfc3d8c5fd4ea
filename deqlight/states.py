"""Station 0, the arithmetic of states: a tensor, or a flat tuple of tensors, treated alike.

Everything that an integrator does to a state goes through here, so that one solver serves both kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, cast

import torch

from .types import State, Tensor, Time, Weight

__all__ = [
    "as_float",
    "axpy",
    "batch_size",
    "beside",
    "combine",
    "each",
    "finite_samples",
    "is_finite",
    "last_of",
    "leaves",
    "like",
    "root",
    "tree_map",
    "tree_tensors",
    "unique",
]


def leaves(y: State) -> tuple[Tensor, ...]:
    """The tensors of a state, in order."""
    return y if isinstance(y, tuple) else (y,)


def each(fn: Callable[..., Tensor], *states: State) -> State:
    """`fn` of the corresponding leaves of one or more states of the same kind."""
    if isinstance(states[0], tuple):
        return tuple(fn(*parts) for parts in zip(*states, strict=True))
    return fn(*states)


def like(t: Time, leaf: Tensor) -> Time:
    """The time `t` so that it broadcasts against `leaf`: floats as they are, tensors `(batch, 1, ...)` in its dtype."""
    if isinstance(t, float) or t.dim() == 0 or (t.dim() == leaf.dim() and t.dtype == leaf.dtype):
        return t
    return beside(t, leaf).to(leaf.dtype)


def beside(x: Tensor, leaf: Tensor) -> Tensor:
    """`x` with one number a sample, so that it broadcasts along the axes of `leaf`."""
    return x.reshape(x.shape[0], *[1] * (leaf.dim() - 1))


def batch_size(y: State) -> int:
    """Length of axis 0 of the leaves; 1 for a state without axes."""
    first = leaves(y)[0]
    return first.shape[0] if first.dim() else 1


def as_float(t: Time) -> float:
    """The time as a Python float, without a gradient."""
    return float(t.item() if isinstance(t, Tensor) else t)


def root(dt: Time) -> Time:
    """The square root of the length of a step."""
    return dt.abs().sqrt() if isinstance(dt, Tensor) else abs(dt) ** 0.5


def axpy(weight: Weight, x: State, y: State) -> State:
    """`y + weight * x`, in one pass over memory where the weight is a Python float."""
    if isinstance(weight, float):
        if isinstance(x, Tensor):
            return torch.add(cast(Tensor, y), x, alpha=weight)
        return each(lambda a, b: torch.add(b, a, alpha=weight), x, y)
    return each(lambda a, b: b + like(weight, a) * a, x, y)


def combine(weights: Sequence[Weight], states: Sequence[State]) -> State:
    """The sum of `weight * state`, rounded as the formula is written; at least one of each."""
    parts = [each(lambda a, w=weight: a * like(w, a), state) for weight, state in zip(weights, states, strict=True)]
    return reduce(lambda total, part: each(torch.add, total, part), parts)


def is_finite(y: State) -> bool:
    """Whether every number of the state is finite.

    One pass and one read from the device: NaN and infinity show in a sum. Only where the sum is not finite, which may
    be its own overflow, is each number looked at.
    """
    return all(math.isfinite(leaf.detach().sum().item()) or bool(leaf.isfinite().all()) for leaf in leaves(y))


def last_of(ys: State) -> State:
    """The state at the last of the times, which come first; of one, with nothing to do on the way back."""
    return each(lambda leaf: leaf.squeeze(0) if len(leaf) == 1 else leaf[-1], ys)


def finite_samples(y: State) -> Tensor:
    """For each sample, whether all its numbers are finite: `(batch,)`, on the CPU."""
    flags = [torch.isfinite(leaf).reshape(leaf.shape[:1].numel(), leaf.shape[1:].numel()).all(1) for leaf in leaves(y)]
    return torch.stack(flags).all(0).cpu()


def unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The different ones among tensors, in order: layers may share their weights."""
    return list({id(tensor): tensor for tensor in tensors}.values())


def tree_map(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """`fn` of every tensor in (named) tuples of tensors, numbers and None; the rest is kept as it is."""
    if isinstance(tree, Tensor):
        return fn(tree, *others)
    if isinstance(tree, tuple):
        parts = [tree_map(fn, *items) for items in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def tree_tensors(tree: Any) -> list[Tensor]:
    """The tensors of such a tree, in order."""
    found: list[Tensor] = []
    tree_map(found.append, tree)
    return found
