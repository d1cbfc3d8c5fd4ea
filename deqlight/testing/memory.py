"""Station: the measuring bench, its scales. The bytes of tensors that are alive, whoever keeps them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..types import Tensor

__all__ = ["LiveBytes", "Memory", "gradients", "measured_memory", "without_collector"]

MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What a forward and a backward pass hold, in bytes, besides what was there before."""

    kept: int
    """Alive between the passes: what autograd saved, what the gradient method holds, and the output."""
    peak: int
    """The most that was alive at any time of both passes, the gradients of the parameters included."""

    @property
    def kept_mib(self) -> float:
        """`kept` in MiB."""
        return self.kept / MIB

    @property
    def peak_mib(self) -> float:
        """`peak` in MiB."""
        return self.peak / MIB


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch has it
    """A mode that sees every operation and knows the bytes of all tensors, made under it, that are still alive.

    Memory is counted once however many tensors share it, and from its making until the last of them is gone, be it a
    variable, autograd's graph or a gradient method that holds it. Not seen is what an operation uses inside itself.
    Compiled functions do not run under a mode that sees every operation; compiled solves say so, `CompileFailure`.

    Attributes:
        now: bytes that are alive.
        peak: the most bytes that were alive at a time.

    >>> with LiveBytes() as live:
    ...     a = torch.ones(1000)
    ...     b = a.view(10, 100)
    ...     del a
    >>> live.now
    4000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = {_place(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _place(tensor) not in given:
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage, place = tensor.untyped_storage(), _place(tensor)
        size = storage.nbytes()
        if not size or place in self._alive:
            return
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone(_: object) -> None:
            del self._alive[place]
            self.now -= size

        self._alive[place] = weakref.ref(storage, gone)


def measured_memory(forward: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Memory:
    """What `forward` keeps for its backward pass, and the most that both passes hold.

    Both run once before, so that what is made at the first call and stays (caches) is not counted.

    Args:
        forward: gives the tensor to differentiate; its sum is, if it is no scalar.
        inputs: the tensors to differentiate with respect to; some may be unused.

    >>> x = torch.ones(1000, requires_grad=True)
    >>> measured_memory(lambda: x.exp().sum(), [x]).kept  # exp keeps its result; the sum is a number
    4004
    """
    gradients(forward(), inputs)
    with without_collector(), LiveBytes() as live:
        output = forward()
        kept = live.now
        gradients(output, inputs)
    return Memory(kept, live.peak)


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `output` with respect to `inputs`; None for those it does not depend on."""
    ones = torch.ones_like(output)
    return torch.autograd.grad(output, tuple(inputs), ones, allow_unused=True)


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect garbage, then leave the collector off: it must not run in one measurement and not in the next."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
