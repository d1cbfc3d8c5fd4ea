"""Station: the right-hand side, its derivative along directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch

from ..states import each, leaves
from ..types import State, Tensor

__all__ = ["along", "leaf_of", "pulled"]


def along(
    fn: Callable[[State], State], y: State, directions: Callable[[State], Sequence[State]]
) -> tuple[State, list[State]]:
    """`fn(y)` and its derivatives at `y` along directions, from one call of `fn`; differentiable where grads are on.

    By two passes backwards: the derivative of Jᵀw with respect to w is J, and layers need to know no other way.

    Args:
        fn: of a state.
        y: the state.
        directions: gives the directions, shaped as `y`, from the value of `fn`.
    """
    wanted, own = torch.is_grad_enabled(), not any(leaf.requires_grad for leaf in leaves(y))
    with torch.inference_mode(False), torch.enable_grad():
        inputs = each(lambda leaf: leaf_of(leaf, wanted), y)
        value = fn(inputs)
        wanted = wanted and not (own and _leads_nowhere(value, inputs))
        with torch.set_grad_enabled(wanted):  # what is made in inference mode may be a part of them
            ways = directions(value)
        rates = _pushed(value, inputs, ways, wanted)
    if wanted:
        return value, rates
    return each(torch.detach, value), [each(torch.detach, rate) for rate in rates]


def _pushed(value: State, inputs: State, ways: Sequence[State], wanted: bool) -> list[State]:
    """J times each of the directions."""
    moving = [out for out in leaves(value) if out.requires_grad]
    if not moving:
        return [each(torch.zeros_like, value) for _ in ways]
    weights = _zeros(moving, leaves(inputs))
    options = {"allow_unused": True, "materialize_grads": True}
    pulled = torch.autograd.grad(moving, leaves(inputs), weights, create_graph=True, **options)
    rates = []
    for way in ways:
        pairs = [(p, d) for p, d in zip(pulled, leaves(way), strict=True) if p.requires_grad]
        if pairs:
            sources, arriving = zip(*pairs, strict=True)
            found = torch.autograd.grad(sources, weights, arriving, create_graph=wanted, retain_graph=True, **options)
        else:  # the value does not depend on the state
            found = tuple(torch.zeros_like(out) for out in moving)
        rest = iter(found)
        rates.append(each(lambda out, rest=rest: next(rest) if out.requires_grad else torch.zeros_like(out), value))
    return rates


def _zeros(outs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Zeros to differentiate by, made later than the inputs, if only for the graph.

    The engine looks at all nodes that are no older than what it differentiates by: by leaves, at the whole history of
    the inputs, so that the cost of a long solve would grow with its square.
    """
    never, late = torch.zeros((), dtype=torch.bool, device=outs[0].device), sum(leaf.sum() for leaf in inputs)
    return [torch.where(never, cast(Tensor, late).to(out.dtype), torch.zeros_like(out)) for out in outs]


def _leads_nowhere(value: State, inputs: State) -> bool:
    """Whether a value depends on nothing that needs a gradient but the inputs, which were made for the derivative."""
    ends = {id(leaf) for leaf in leaves(inputs)}
    nodes, seen = [out.grad_fn for out in leaves(value)], set[object]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and id(node.variable) not in ends:
            return False
        nodes.extend(parent for parent, _ in node.next_functions)
    return True


def pulled(values: State, inputs: State, weights: Sequence[Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Jᵀw, leaf by leaf of the inputs; zero where the values do not depend on them."""
    moving = [(value, weight) for value, weight in zip(leaves(values), weights, strict=True) if value.requires_grad]
    if not moving:
        return tuple(torch.zeros_like(leaf) for leaf in leaves(inputs))
    outputs, arriving = zip(*moving, strict=True)
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    return torch.autograd.grad(outputs, leaves(inputs), arriving, create_graph=create_graph, **options)


def leaf_of(leaf: Tensor, wanted: bool) -> Tensor:
    """The leaf as something that can be differentiated by, in the graph that it has where that is wanted."""
    if wanted and leaf.requires_grad:
        return leaf
    return (leaf.clone() if leaf.is_inference() else leaf).detach().requires_grad_()
