"""Station: the way back, step by step. Field evaluations made while undoing a step serve its gradient as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.autograd.function import FunctionCtx

from ..states import each, leaves
from ..terms.base import name_of
from ..types import FieldFn, State, Tensor, Time
from ._shared import gradients_of, refuse_undeclared

__all__ = ["Call", "Key", "Tape"]


@dataclass
class Call:
    """One recorded evaluation: the field at `y`, which is the leaf of a graph that ends in `value`."""

    y: State
    value: State
    tensors: Sequence[Tensor]
    """What else the value depends on."""


Key: TypeAlias = tuple[FieldFn, Time]
"""What a call is known by."""

NEAR = 1e-2
"""How far apart, relatively, the arguments of one call may lie that is made on two ways: undoing a step is exact up to
rounding, which grows where a method contracts; anything else is another call."""


class Tape:
    """Two hooks around the fields of a step: `record` while it is undone, `replay` while it is done again.

    Undoing a step and doing it evaluate the same fields at the same points, up to rounding; a replayed call takes the
    recorded value and its graph. Calls are matched by field and time; where that is ambiguous, or no call matches,
    the field is evaluated again. Both hooks count evaluations in `calls`. A method that carries an evaluation over the
    end of a step takes none where undoing it made one: that of the step after serves this one.

    Args:
        tensors: the declared tensors that fields depend on, besides their argument; each once, each needs a gradient.
        share: whether both directions make the same calls; an iterative solver may not, and replays none.
        after: what was left over from the step after this one.
    """

    def __init__(self, tensors: Sequence[Tensor], share: bool = True, after: Mapping[Key, Call] | None = None) -> None:
        self.tensors, self.share, self.after = tensors, share, after or {}
        self.calls = 0
        self._taken: set[Key] = set()
        self._tape: dict[Key, list[Call]] = {}
        self._linearised: set[Key] = set()

    def record(self, field: FieldFn, t: Time, y: State) -> State:
        """Evaluate, remember the graph, and return the value without it.

        A solver that linearises the field while it undoes a step differentiates the call itself, and will again.
        """
        self.calls += 1
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves(y)):
            self._linearised.add((field, t))
            value = field(t, y)
            self._look_at(field, value, y)
            return value
        y = each(lambda leaf: leaf.detach().requires_grad_(), y)
        with torch.enable_grad():
            value = field(t, y)
        used = self._look_at(field, value, y)
        self._tape.setdefault((field, t), []).append(Call(y, value, [x for x in self.tensors if id(x) in used]))
        return each(torch.detach, value)

    def replay(self, field: FieldFn, t: Time, y: State) -> State:
        """The recorded value at this field and time, differentiable in `y` and the declared tensors; else evaluate."""
        call = self._recorded((field, t), y)
        if call is None:
            self.calls += 1
            return field(t, y)
        inputs = (*leaves(y), *call.tensors)
        values: tuple[Tensor, ...] = _Replayed.apply(call, *inputs)  # type: ignore[no-untyped-call]
        return values if isinstance(y, tuple) else values[0]

    def left(self) -> dict[Key, Call]:
        """The calls that were recorded once and not taken."""
        single = {key: calls[0] for key, calls in self._tape.items() if len(calls) == 1 and key not in self._linearised}
        return {key: call for key, call in single.items() if key not in self._taken} if self.share else {}

    def _recorded(self, key: Key, y: State) -> Call | None:
        """The recorded call, if there is one and no other could be meant."""
        if not self.share or key in self._linearised:
            return None
        calls = self._tape.get(key, ())
        if len(calls) == 1:
            self._taken.add(key)
            return calls[0]
        call = None if calls else self.after.get(key)
        return call if call is not None and _near(call.y, y) else None

    def _look_at(self, field: FieldFn, value: State, y: State) -> dict[int, Tensor]:
        return refuse_undeclared(leaves(value), [*self.tensors, *leaves(y)], f"the field {name_of(field)}")


def _near(a: State, b: State) -> bool:
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(float(torch.dist(x.detach(), z.detach())) <= NEAR * float(z.detach().norm()) for x, z in pairs)


class _Replayed(torch.autograd.Function):
    """The value of a recorded call as a function of the argument and the declared tensors."""

    @staticmethod
    def forward(ctx: Any, call: Call, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        return tuple(leaf.detach() for leaf in leaves(call.value))

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call = ctx.call  # type: ignore[attr-defined]  # set in forward, as autograd wants it
        pairs = list(zip(leaves(call.value), grads, strict=True))
        return (None, *gradients_of(pairs, (*leaves(call.y), *call.tensors)))
