"""Station: the way back, its tools. What gradient methods with a backward pass of their own share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias, cast

import torch

from ..errors import InputError
from ..problem import Problem
from ..solvers import Solver
from ..states import leaves, unique
from ..types import FieldFn, State, Tensor, Time

__all__ = [
    "Counter",
    "Pairs",
    "Sums",
    "Versions",
    "as_input",
    "autocast_as_now",
    "differentiable",
    "explicit",
    "gradients_of",
    "refuse_output",
    "refuse_undeclared",
    "unlinked",
    "watched_by",
]

Pairs: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Outputs of a graph with the gradients that arrive at them."""


class Counter:
    """A hook that counts the calls of a field, and does no more."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, field: FieldFn, t: Time, y: State) -> State:
        """Call the field."""
        self.calls += 1
        return field(t, y)


class Sums:
    """Gradients, summed for each tensor."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}
        self._own: set[int] = set()  # sums that nobody else can see

    def add(self, tensor: Tensor, grad: Tensor | None) -> None:
        """Add a gradient; None is zero."""
        if grad is None:
            return
        key = id(tensor)
        if key not in self._sums:
            self._sums[key] = grad
        elif key in self._own and not torch.is_grad_enabled():
            self._sums[key].add_(grad)
        else:
            self._sums[key] = self._sums[key] + grad
            self._own.add(key)

    def of(self, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """The sum of each; None for those that got none."""
        return tuple(self._sums.get(id(tensor)) for tensor in tensors)


class Versions:
    """How often tensors were written to, to see whether they still are what they were."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.before = self._now()

    def check(self) -> None:
        """Raise `InputError` if one was changed in place."""
        if self._now() != self.before:
            raise InputError(
                "a parameter of the term was changed in place between the solve and its backward pass; call backward "
                "before the optimiser's step, or use the gradient Direct"
            )

    def _now(self) -> list[int]:
        return [0 if tensor.is_inference() else tensor._version for tensor in self.tensors]


def watched_by(problem: Problem) -> tuple[Tensor, ...]:
    """All tensors that may get a gradient, each once: the state, the term's, the solver's; none under `no_grad`."""
    if not torch.is_grad_enabled():
        return ()
    return tuple(unique((*leaves(problem.y0), *problem.term.tensors(*problem.ends), *problem.solver.tensors())))


def differentiable(*tensors: Tensor) -> list[Tensor]:
    """Those that need a gradient, each once."""
    return [tensor for tensor in unique(tensors) if tensor.requires_grad]


def explicit(solver: Solver) -> bool:
    """Whether a step is made of evaluations of the field alone; else it solves equations with its derivative."""
    return solver.info.nfe_step is not None and solver.info.stiff_order is None


def as_input(leaf: Tensor) -> Tensor:
    """The tensor as the beginning of a graph; whole numbers as they are."""
    leaf = leaf.detach()
    return leaf.requires_grad_() if leaf.is_floating_point() else leaf


def unlinked(leaf: Tensor) -> Tensor:
    """The tensor without its graph; it needs a gradient if it did before."""
    return leaf.detach().requires_grad_(leaf.requires_grad)


def autocast_as_now(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """A maker of the autocast context that is active now."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return lambda: cast("AbstractContextManager[None]", torch.autocast(kind, dtype=dtype, enabled=enabled))


def gradients_of(
    pairs: Pairs, sources: Sequence[Tensor], create_graph: bool = False, retain_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """The gradients of the sources; None for those that nothing depends on."""
    pairs = [(output, grad) for output, grad in pairs if output.requires_grad]
    if not pairs or not sources:
        return (None,) * len(sources)
    outputs, grads = zip(*pairs, strict=True)
    return torch.autograd.grad(
        outputs, sources, grads, retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
    )


def refuse_output(method: str, problem: Problem) -> None:
    """Raise `InputError` for times that need a gradient, and for dense output."""
    if any(isinstance(t, Tensor) and t.requires_grad for t in problem.ends):
        raise InputError(f"{method} got times that need a gradient; use the gradient Direct for those")
    if problem.saveat.dense:
        raise InputError(
            f"{method} got SaveAt(dense=True), whose polynomials need a graph of every step; ask for the states at ts "
            "alone, or use the gradient Direct"
        )


def refuse_undeclared(
    outputs: Sequence[Tensor], declared: Sequence[Tensor], whose: str = "a field"
) -> dict[int, Tensor]:
    """Where a graph begins, by identity; `InputError` if at other leaves than declared ones, whose gradient were lost.

    Declared tensors that are no leaves are all taken for such places.
    """
    known, stops = {id(tensor) for tensor in declared}, {t.grad_fn for t in declared if t.grad_fn is not None}
    todo = [out.grad_fn for out in outputs if out.grad_fn is not None and out.grad_fn not in stops]
    seen, begins = set(todo), [out for out in outputs if out.grad_fn is None and out.requires_grad]
    while todo:
        node = todo.pop()
        variable = getattr(node, "variable", None)  # an AccumulateGrad node holds its leaf
        if variable is not None:
            begins.append(variable)
        following = [edge for edge, _ in node.next_functions if edge is not None and edge not in seen]
        seen.update(following)
        todo += [edge for edge in following if edge not in stops]
    for variable in begins:
        if id(variable) not in known:
            raise InputError(
                f"{whose} uses a tensor of shape {tuple(variable.shape)} that needs a gradient but is neither a "
                "parameter of the term nor in its context, so that it would get none; make the field an nn.Module "
                "that owns it, declare it, ODETerm(field, context=(tensor,)), or use the gradient Direct"
            )
    return {id(tensor): tensor for tensor in (*begins, *(t for t in declared if t.grad_fn is not None))}
