"""Station: the measuring bench, its instruments. Gradients, against others and against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..gradients import Direct, Gradient
from ..solvers import Solver
from ..solving import solve
from ..states import leaves, tree_map
from ..terms import Term
from ..types import State, Tensor
from .networks import edges, network

__all__ = ["difference_gap", "gradient_gap", "nudged_gap"]

NUDGE = 1e-5
"""Half the distance of finite differences: their error is its square, 1e-10, and rounding's 1e-16 over it, 1e-11."""

DIRECTIONS = 3
"""In how many random directions they are taken."""


def gradient_gap(solver: Solver, gradient: Gradient, layers: int = 12) -> float:
    """The largest difference, relatively, between a method's gradients of a network and those of `Direct`."""
    term, y0 = _watched(solver, layers)
    tensors = [*leaves(y0), *term.parameters(), *solver.tensors()]
    direct, other = (_gradients(_loss(solver, term, y0, layers, method), tensors) for method in (Direct(), gradient))
    gap = max(float((a - b).abs().max()) for a, b in zip(direct, other, strict=True))
    return gap / max(float(a.abs().max()) for a in direct)


def difference_gap(solver: Solver, layers: int = 4) -> float:
    """The largest difference, relatively, between gradients through the steps and central differences.

    Of a loss with respect to the start, the parameters of the field and the solver's own, in random directions.
    """
    term, y0 = _watched(solver, layers)
    tensors = [*leaves(y0), *term.parameters(), *solver.tensors()]
    return nudged_gap(lambda: _loss(solver, term, y0, layers), tensors)


def nudged_gap(loss: Callable[[], Tensor], tensors: Sequence[Tensor]) -> float:
    """The largest difference, relatively, between a loss's gradients and its central differences."""
    grads = _gradients(loss(), tensors)
    generator, gaps = torch.Generator().manual_seed(0), list[float]()
    for _ in range(DIRECTIONS):
        along = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in tensors]
        told = sum(float((g * d).sum()) for g, d in zip(grads, along, strict=True))
        ahead, behind = (_nudged(loss, tensors, along, sign * NUDGE) for sign in (1.0, -1.0))
        gaps.append(abs(told - (ahead - behind) / (2 * NUDGE)))
    return max(gaps) / max(float(g.norm()) for g in grads)


def _watched(solver: Solver, layers: int) -> tuple[Term, State]:
    term, y0 = network(solver.info, layers)
    return term, tree_map(lambda leaf: leaf.requires_grad_(), y0)


def _loss(solver: Solver, term: Term, y0: State, layers: int, gradient: Gradient = Direct()) -> Tensor:  # noqa: B008
    solution = solve(term, y0, edges(solver.info, layers), solver=solver, gradient=gradient)
    return torch.stack([leaf.square().sum() for leaf in leaves(solution.ys)]).sum()


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)


@torch.no_grad()
def _nudged(loss: Callable[[], Tensor], tensors: Sequence[Tensor], along: Sequence[Tensor], by: float) -> float:
    """The loss with all tensors moved; they are moved back."""
    for tensor, direction in zip(tensors, along, strict=True):
        tensor.add_(direction, alpha=by)
    moved = float(loss())
    for tensor, direction in zip(tensors, along, strict=True):
        tensor.sub_(direction, alpha=by)
    return moved
