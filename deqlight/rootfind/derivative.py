"""Station: where a residual vanishes. The root's derivative, by the implicit function theorem."""

from __future__ import annotations

import torch

from ..linear import Inverse, Linearisation, solved
from ..types import Tensor
from .newton import Map, Newton, Root

__all__ = ["implicit"]

EXACT = 0.7
"""Relative residual of GMRES in a gradient: eps to this power."""


def implicit(newton: Newton, g: Map, base: Tensor, a: Tensor, root: Root, eps: float) -> tuple[Tensor, Inverse | None]:
    """The root as a function of `base` and whatever else g depends on: one Newton step from it, M constant.

    With M = 1 − a ∂g/∂z at the root, u − M⁻¹ (u − g(base + a u)) has the root's derivative, which the implicit function
    theorem gives, and is nearer to the root. One evaluation of g. Samples that did not converge stay out of the graph.

    Returns:
        The root, `(batch, stages, n)`, and M⁻¹, None if some samples are left out.
    """
    index = None if bool(root.converged.all()) else root.converged.nonzero()[:, 0].to(base.device)
    u, start = (v if index is None else v[index] for v in (root.u, base))
    z = start[:, None] + torch.einsum("ij,bjn->bin", a, u)
    if not z.requires_grad:
        z.requires_grad_()
    at = Linearisation(z, g(z, index))
    inverse = newton.inverse(at, a, eps**EXACT)
    found = u - solved(u - at.value, inverse)
    if index is None:
        return found, inverse
    return root.u.index_copy(0, index, found), None
