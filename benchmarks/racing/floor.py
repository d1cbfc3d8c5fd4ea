"""The floor: the evaluations of the field that a solve makes, and their gradients, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deqlight.testing.memory import gradients


@dataclass
class Calls:
    """How often fields were evaluated, and how often an evaluation was differentiated."""

    forward: int = 0
    """Evaluations up to the end of the forward pass."""
    rows: int = 0
    """The same, sample by sample: an evaluation counts the samples that are in it."""
    again: int = 0
    """Evaluations of the backward pass."""
    backward: int = 0
    """Vector–Jacobian products."""


def count(fields: Iterable[nn.Module], forward: Callable[[], Tensor], inputs: Iterable[Tensor]) -> Calls:
    """Run a forward and a backward pass, and count from outside, by hooks on the fields: the same for everyone."""
    found, seen = Calls(), [0, 0]

    def product(_: Tensor) -> None:
        found.backward += 1

    def called(module: nn.Module, arguments: object, value: Tensor) -> None:
        seen[0] += 1
        seen[1] += len(value)
        if value.requires_grad:
            value.register_hook(product)

    hooks = [field.register_forward_hook(called) for field in fields]
    try:
        output = forward()
        found.forward, found.rows = seen
        gradients(output, tuple(inputs))
        found.again = seen[0] - found.forward
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Floor:
    """As many evaluations of a field at one state, each followed by nothing; then as many gradients of them.

    No evaluation needs another's result, so nothing is added, scaled or copied between them: each has an argument of
    its own (a view of the same state, made beforehand), and the cotangents of all are the same tensor. Gradients of
    parameters are summed up over the evaluations, as in any backward pass.

    Args:
        field: the field.
        y: the state.
        calls: how many evaluations and products.
    """

    def __init__(self, field: nn.Module, y: Tensor, calls: Calls) -> None:
        self.field, self.y, self.calls = field, y.detach(), calls
        self.arguments = [self.y.detach().requires_grad_() for _ in range(calls.forward)]
        self.cotangent = torch.full_like(self.y, 1e-3)
        self.parameters = tuple(field.parameters())

    @torch.no_grad()
    def forward(self) -> Tensor:
        """The evaluations alone; each value lives until the next is there, as in any solve."""
        value = self.y
        for _ in range(self.calls.forward):
            value = self.field(0.0, self.y)
        return value

    def both(self) -> None:
        """The evaluations, and the gradients of those that a solve differentiates."""
        values = [self.field(0.0, y) for y in self.arguments]
        used = self.calls.backward
        inputs = (*self.arguments[:used], *self.parameters)
        torch.autograd.grad(values[:used], inputs, [self.cotangent] * used)
