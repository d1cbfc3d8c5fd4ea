"""Station: noise in training. A product whose gradient has a factor of its own, as shake regularisers have it."""

from __future__ import annotations

from typing import Any, cast

import torch

from ..types import Tensor

__all__ = ["two_ways"]


def two_ways(f: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """`forward · f`, whose gradient with respect to `f` is `backward`; both broadcast against `f` and get none."""
    return cast(Tensor, _TwoWays.apply(f, forward, backward))  # type: ignore[no-untyped-call]  # as torch has it


class _TwoWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return f * forward

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grad * factor, None, None
