"""Station: what is linear where a residual vanishes. A map at a point, and equations with it, sample by sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from .errors import InputError, NoConvergence
from .types import Tensor

__all__ = ["Factorised", "Inverse", "Krylov", "Linearisation", "gmres", "solved"]

DEPTH, CYCLES = 40, 10
"""Length of the Krylov basis, and how often it is built anew."""

STALLS = 0.5
"""A cycle that leaves more than this of the residual of a sample ends the work on it."""

LOOSE = 0.5
"""Residuals of gradients are refused above eps to this power."""

HINT = "Give the solver a larger `dense`, which solves by factorisation, or shorter steps."


class Linearisation:
    """A map g at a point z, with the graph of its one evaluation: Jacobians and products with them cost no further one.

    The map acts on each sample, and in it on each of `stages` blocks, by itself.

    Args:
        z: the point, `(batch, stages, n)`; needs a gradient.
        value: g(z), as `z`, with its graph.
    """

    def __init__(self, z: Tensor, value: Tensor) -> None:
        self.z, self.value = z, value
        self._pushed: tuple[Tensor, Tensor] | None = None

    def jacobians(self) -> Tensor:
        """∂g/∂z of each block, `(batch, stages, n, n)`, by n products with its transpose at once."""
        batch, stages, n = self.z.shape
        if not self.value.requires_grad:
            return self.z.new_zeros(batch, stages, n, n)
        unit = torch.eye(n, dtype=self.z.dtype, device=self.z.device)[:, None, None].expand(n, batch, stages, n)
        (rows,) = torch.autograd.grad(
            self.value, self.z, unit, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        if rows is None:
            return self.z.new_zeros(batch, stages, n, n)
        return rows.movedim(0, 2)  # (batch, stages, n of g, n of z)

    def pulled(self, v: Tensor) -> Tensor:
        """(∂g/∂z)ᵀ v, as `z`."""
        if not self.value.requires_grad:
            return torch.zeros_like(v)
        (grad,) = torch.autograd.grad(self.value, self.z, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if grad is None else grad

    def pushed(self, w: Tensor, create_graph: bool = False) -> Tensor:
        """∂g/∂z w, as `z`: the derivative of v ↦ (∂g/∂z)ᵀ v, which is linear, whatever v is."""
        if self._pushed is None:
            self._pushed = self._transposed()
        v, pulled = self._pushed
        if not pulled.requires_grad:
            return torch.zeros_like(w)
        (grad,) = torch.autograd.grad(pulled, v, w, retain_graph=True, create_graph=create_graph, allow_unused=True)
        return torch.zeros_like(w) if grad is None else grad

    def depends_on_more(self) -> bool:
        """Whether the value has a graph that leads to other leaves than the point."""
        seen, todo = set[Any](), [self.value.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            variable = getattr(node, "variable", None)  # an AccumulateGrad node holds its leaf
            if variable is not None and variable is not self.z:
                return True
            todo += [edge for edge, _ in node.next_functions]
        return False

    def _transposed(self) -> tuple[Tensor, Tensor]:
        v = torch.zeros_like(self.value).requires_grad_()
        if not self.value.requires_grad:
            return v, torch.zeros_like(v)
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad(self.value, self.z, v, create_graph=True, allow_unused=True)
        return v, torch.zeros_like(v) if pulled is None else pulled


class Inverse(ABC):
    """The inverse of M = 1 − a ∂g/∂z of each sample, where `a` `(stages, stages)` couples the blocks."""

    @abstractmethod
    def solve(self, r: Tensor) -> Tensor:
        """M⁻¹ r, both `(batch, stages, n)`."""

    @abstractmethod
    def transposed(self, r: Tensor) -> Tensor:
        """M⁻ᵀ r, both `(batch, stages, n)`."""


class Factorised(Inverse):
    """The inverse by factorisation.

    Args:
        factors: the factors L and U of each M, `(batch, stages · n, stages · n)`.
        pivots: the rows that were exchanged, `(batch, stages · n)`.
    """

    def __init__(self, factors: Tensor, pivots: Tensor) -> None:
        self.factors, self.pivots = factors, pivots

    @classmethod
    def of(cls, jacobians: Tensor, a: Tensor) -> Factorised:
        """From the Jacobians of the blocks `(batch, stages, n, n)`."""
        batch, s, n, _ = jacobians.shape
        coupled = torch.einsum("ij,bikl->bikjl", a, jacobians).reshape(batch, s * n, s * n)
        matrix = torch.eye(s * n, dtype=coupled.dtype, device=coupled.device) - coupled
        return cls(*torch.linalg.lu_factor_ex(matrix)[:2])

    def solve(self, r: Tensor) -> Tensor:
        """M⁻¹ r."""
        return self._solve(r, False)

    def transposed(self, r: Tensor) -> Tensor:
        """M⁻ᵀ r."""
        return self._solve(r, True)

    def _solve(self, r: Tensor, adjoint: bool) -> Tensor:
        flat = r.reshape(len(r), self.pivots.shape[1], 1)
        x: Tensor = torch.linalg.lu_solve(self.factors, self.pivots, flat, adjoint=adjoint)
        return x.reshape(r.shape)


class Krylov(Inverse):
    """The inverse by GMRES, from products alone.

    Args:
        at: the linearisation of g.
        a: what couples the blocks, `(stages, stages)`.
        within: residual at which a sample is done, relative to its right-hand side.
    """

    def __init__(self, at: Linearisation, a: Tensor, within: float) -> None:
        self.at, self.a, self.within = at, a, within
        self.left = torch.zeros(())
        """Relative residuals that the last solution left, `(batch,)`."""

    def solve(self, r: Tensor) -> Tensor:
        """M⁻¹ r, as near as it comes."""
        x, self.left = gmres(lambda w: w - self.at.pushed(torch.einsum("ij,bjn->bin", self.a, w)), r, self.within)
        return x

    def transposed(self, r: Tensor) -> Tensor:
        """M⁻ᵀ r.

        Raises:
            NoConvergence: where it does not come near: a gradient must not be wrong in silence.
        """
        x, left = gmres(lambda w: w - torch.einsum("ji,bjn->bin", self.a, self.at.pulled(w)), r, self.within)
        bad = left > torch.finfo(r.dtype).eps ** LOOSE  # false for NaN, which shows by itself
        if bool(bad.any()):
            samples = [int(i) for i in bad.nonzero().flatten()]
            raise NoConvergence("the linear equations of a gradient were not solved", hint=HINT, samples=samples)
        return x


class _Solved(torch.autograd.Function):
    """M⁻¹ r forth, M⁻ᵀ back."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, inverse: Inverse) -> Tensor:
        ctx.inverse = inverse
        return inverse.solve(r)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # the engine builds a graph of the way back
            raise InputError(
                "an implicit step gives first derivatives alone, by the implicit function theorem; create_graph=True "
                "needs an explicit solver"
            )
        return ctx.inverse.transposed(grads[0]), None


def solved(r: Tensor, inverse: Inverse) -> Tensor:
    """M⁻¹ r `(batch, stages, n)`, once differentiable in `r`; M is taken as constant."""
    x: Tensor = _Solved.apply(r, inverse)  # type: ignore[no-untyped-call]  # as torch has it
    return x


def gmres(apply: Callable[[Tensor], Tensor], b: Tensor, within: float) -> tuple[Tensor, Tensor]:
    """Solve M x = b for each sample by restarted GMRES; a sample's solution does not depend on the others.

    Args:
        apply: M w, for all samples at once.
        b: the right-hand sides, `(batch, …)`.
        within: residual, relative to `b`, at which a sample is done.

    Returns:
        x, as `b`, and the relative residuals left, `(batch,)`.

    Reference: Saad & Schultz, SIAM J. Sci. Stat. Comput. 7 (1986).
    """
    shape, b = b.shape, b.flatten(1)
    size = torch.linalg.vector_norm(b, dim=1)
    target, x, r, left = within * size, torch.zeros_like(b), b, size
    going = left > target
    for _ in range(CYCLES):
        if not bool(going.any()):
            break
        step, estimate = _cycle(lambda w: apply(w.reshape(shape)).reshape(b.shape), r, target, going)
        x, before = x + step, left
        left = torch.where(going, estimate, left)
        again = left > target
        if bool(again.any()):  # the residual itself, where the basis came to its end
            r = b - apply(x.reshape(shape)).reshape(b.shape)
            left = torch.where(again, torch.linalg.vector_norm(r, dim=1), left)
        going = again & (left > target) & (left < STALLS * before)
    return x.reshape(shape), left / torch.where(size > 0, size, 1)


def _cycle(apply: Callable[[Tensor], Tensor], r: Tensor, target: Tensor, going: Tensor) -> tuple[Tensor, Tensor]:
    """What to add to x, and the residuals then: one basis, at most `DEPTH` long, of each sample that is `going`.

    A sample that is done takes no part in further columns: they stand for the identity there.
    """
    batch, n = r.shape
    depth = min(DEPTH, n)
    beta = torch.linalg.vector_norm(r, dim=1)
    basis = r.new_zeros(depth + 1, batch, n)
    basis[0] = torch.where(going[:, None], r / beta[:, None], 0.0)
    turned = torch.eye(depth + 1, dtype=r.dtype, device=r.device).repeat(batch, 1, 1)  # the Givens rotations so far
    upper = torch.eye(depth, dtype=r.dtype, device=r.device).repeat(batch, 1, 1)
    right, left, live, j = r.new_zeros(batch, depth), beta, going, 0
    for j in range(depth):
        h, w = _orthogonal(apply(basis[j]), basis[: j + 1])
        length = torch.linalg.vector_norm(w, dim=1)
        column = (turned[:, : j + 1, : j + 1] @ h[:, :, None])[:, :, 0]
        diagonal = torch.hypot(column[:, j], length)
        solid = diagonal > 0
        c, s = (torch.where(solid, v / diagonal, other) for v, other in ((column[:, j], 1.0), (length, 0.0)))
        upper[:, :j, j] = torch.where(live[:, None], column[:, :j], 0.0)
        upper[:, j, j] = torch.where(live & solid, diagonal, 1.0)
        row = turned[:, j, :].clone()
        turned[:, j, :], turned[:, j + 1, :] = c[:, None] * row, -s[:, None] * row
        turned[:, j, j + 1], turned[:, j + 1, j + 1] = s, c
        right[:, j] = torch.where(live & solid, beta * turned[:, j, 0], 0.0)
        left = torch.where(live & solid, beta * turned[:, j + 1, 0].abs(), left)
        live = live & solid & (left > target) & (length > 0)
        basis[j + 1] = torch.where(live[:, None], w / length[:, None], 0.0)
        if not bool(live.any()):
            break
    k = j + 1
    weights = torch.linalg.solve_triangular(upper[:, :k, :k], right[:, :k, None], upper=True)[:, :, 0]
    return torch.einsum("bk,kbn->bn", weights, basis[:k]), left


def _orthogonal(w: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of `w` in the basis `(k, batch, n)`, and what is left of it; twice, for rounding."""
    total = torch.zeros_like(basis[:, :, 0]).T
    for _ in range(2):
        h = torch.einsum("kbn,bn->bk", basis, w)
        w = w - torch.einsum("bk,kbn->bn", h, basis)
        total = total + h
    return total, w
