"""Station: the way back, step by step. Field evaluations made while undoing a step serve its gradient as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import FunctionCtx

from ..errors import InputError
from ..states import each, leaves
from ..types import FieldFn, State, Tensor, Time

__all__ = ["Tape"]


@dataclass
class _Call:
    """One recorded evaluation: the field at `y`, which is the leaf of a graph that ends in `value`."""

    y: State
    value: State


class Tape:
    """Two hooks around the fields of a step: `record` while it is undone, `replay` while it is done again.

    Undoing a step and doing it evaluate the same fields at the same points, up to rounding; a replayed call takes the
    recorded value and its graph. Calls are matched by field and time; where that is ambiguous, or no call matches,
    the field is evaluated again. Both hooks count evaluations in `calls`.

    Args:
        tensors: the declared tensors that fields depend on, besides their argument; each once, each needs a gradient.
        share: whether both directions make the same calls; an iterative solver may not, and replays none.
    """

    def __init__(self, tensors: Sequence[Tensor], share: bool = True) -> None:
        self.tensors, self.share = tensors, share
        self.calls = 0
        self._tape: dict[tuple[FieldFn, Time], list[_Call]] = {}
        self._linearised: set[tuple[FieldFn, Time]] = set()

    def record(self, field: FieldFn, t: Time, y: State) -> State:
        """Evaluate, remember the graph, and return the value without it.

        A solver that linearises the field while it undoes a step differentiates the call itself, and will again.
        """
        self.calls += 1
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves(y)):
            self._linearised.add((field, t))
            value = field(t, y)
            self._refuse_undeclared(field, value, y)
            return value
        y = each(lambda leaf: leaf.detach().requires_grad_(), y)
        with torch.enable_grad():
            value = field(t, y)
        self._refuse_undeclared(field, value, y)
        self._tape.setdefault((field, t), []).append(_Call(y, value))
        return each(torch.detach, value)

    def replay(self, field: FieldFn, t: Time, y: State) -> State:
        """The recorded value at this field and time, differentiable in `y` and the declared tensors; else evaluate."""
        calls = self._tape.get((field, t), ())
        if not self.share or len(calls) != 1 or (field, t) in self._linearised:
            self.calls += 1
            return field(t, y)
        inputs = (*leaves(y), *self.tensors)
        values: tuple[Tensor, ...] = _Replayed.apply(calls[0], len(leaves(y)), *inputs)  # type: ignore[no-untyped-call]
        return values if isinstance(y, tuple) else values[0]

    def _refuse_undeclared(self, field: FieldFn, value: State, y: State) -> None:
        declared = {id(tensor) for tensor in (*self.tensors, *leaves(y))}
        stops = {tensor.grad_fn for tensor in (*self.tensors, *leaves(y)) if tensor.grad_fn is not None}
        todo = [leaf.grad_fn for leaf in leaves(value) if leaf.grad_fn is not None and leaf.grad_fn not in stops]
        seen = set(todo)
        while todo:
            node = todo.pop()
            variable = getattr(node, "variable", None)  # an AccumulateGrad node holds its leaf
            if variable is not None and id(variable) not in declared:
                name = getattr(field, "__name__", type(field).__name__)
                raise InputError(
                    f"the field {name} uses a tensor of shape {tuple(variable.shape)} that needs a gradient but is "
                    "neither a parameter of the term nor in its context, so that it would get none; make the field an "
                    "nn.Module that owns it, declare it, ODETerm(field, context=(tensor,)), or use the gradient Direct"
                )
            following = [edge for edge, _ in node.next_functions if edge is not None and edge not in seen]
            seen.update(following)
            todo += [edge for edge in following if edge not in stops]


class _Replayed(torch.autograd.Function):
    """The value of a recorded call as a function of the argument and the declared tensors."""

    @staticmethod
    def forward(ctx: Any, call: _Call, count: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.tensors = call, inputs[count:]
        return tuple(leaf.detach() for leaf in leaves(call.value))

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call, tensors = ctx.call, ctx.tensors  # type: ignore[attr-defined]  # set in forward, as autograd wants it
        pairs = [(out, grad) for out, grad in zip(leaves(call.value), grads, strict=True) if out.requires_grad]
        outputs, cotangents = zip(*pairs, strict=True) if pairs else ((), ())
        sources = (*leaves(call.y), *tensors)
        found = (
            torch.autograd.grad(outputs, sources, cotangents, allow_unused=True) if pairs else (None,) * len(sources)
        )
        return (None, None, *found)
