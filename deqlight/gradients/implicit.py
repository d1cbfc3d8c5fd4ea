"""Station: the way back from a steady state, by the implicit function theorem: how it was reached does not matter."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError, NoConvergence
from ..integrate import integrate
from ..linear import Inverse, Linearisation
from ..problem import Path, Problem
from ..rootfind import Newton
from ..solvers.stages import Layout
from ..states import each, leaves
from ..terms.ode import OrdinaryTerm
from ..times import OwnTimes
from ..types import State, Tensor
from ._shared import Counter, refuse_output, refuse_undeclared, watched_by
from .base import Gradient

__all__ = ["Implicit"]

EXACT = 0.7
"""Relative residual of GMRES: eps to this power."""


@dataclass(frozen=True)
class Implicit(Gradient):
    """Gradients of the steady state that a solve runs into: f(t₁, y₁) = 0, whatever way led there.

    By the implicit function theorem the gradient of a parameter p is −λᵀ ∂f/∂p with (∂f/∂y)ᵀ λ = ∂L/∂y₁, an equation
    for each sample, factorised for at most `dense` numbers of a sample, above solved by GMRES with products alone. One
    evaluation of the field, whatever the number of steps; none on the way back. So deep equilibrium networks are
    trained: a field g(y, x) − y, integrated until it rests. The state at the start gets the gradient zero. Once
    differentiable; the field must treat each sample by itself.

    Args:
        rtol: a state is steady when |f(t₁, y₁)| <= atol + rtol |y₁|, in the root mean square of each sample.
        atol: see there. A gradient is about as wrong as the state is far from rest.
        dense: most numbers of a sample whose equations are solved by factorisation.

    Raises:
        InputError: for tolerances or sizes that are negative; from a solve, for outputs before the last, layered terms,
            batch norms in training mode, dense output and times that need a gradient.
        NoConvergence: from a solve, if the state at the end is not steady, and says by how much.

    Reference: Bai, Kolter & Koltun, Deep Equilibrium Models, NeurIPS 2019 (arXiv 1909.01377), theorem 1.
    """

    exact: ClassVar[bool] = False
    steady: ClassVar[bool] = True

    rtol: float = 1e-3
    atol: float = 1e-4
    dense: int = 64

    def __post_init__(self) -> None:
        tolerances = self.rtol, self.atol
        if not all(math.isfinite(t) and t >= 0 for t in tolerances) or not any(tolerances) or self.dense < 0:
            raise InputError(
                f"Implicit got rtol={self.rtol}, atol={self.atol}, dense={self.dense}; it needs finite tolerances, not "
                "negative and not both zero, and dense >= 0"
            )

    def integrate(self, problem: Problem) -> Path:
        """Integrate without autograd, see whether the end is steady, and hang the way back on it."""
        refuse_output("Implicit", problem)
        _check_outputs(problem)
        _check_term(problem)
        with torch.no_grad():
            path = integrate(problem)
        counter, needed = Counter(), any(t.requires_grad for t in watched_by(problem))
        steady = _Steady(replace(problem, term=problem.term.wrap(counter)), path, self.dense, needed)
        steady.check(self.rtol, self.atol)
        path.stats.nfe[steady.rows] += counter.calls
        return replace(path, ys=steady.ys(), carry=None) if needed else path


class _Steady:
    """The states at the end of a solve, with one evaluation of the field there.

    Args:
        problem: the solve.
        path: what it left.
        dense: most numbers of a sample whose equations are factorised.
        needed: whether the evaluation is to have a graph.
    """

    def __init__(self, problem: Problem, path: Path, dense: int, needed: bool) -> None:
        self.problem, self.path, self.newton = problem, path, Newton(dense=dense)
        lost = {i for failure in path.failures for i in failure.samples}
        self.rows = torch.tensor([i for i in range(problem.batch) if i not in lost], dtype=torch.int64)
        self.layout = Layout(self._of_rows(self._last()))
        self.z = self.layout.flat(self.layout.y)[:, None]  # (rows, 1, n)
        with torch.set_grad_enabled(needed):
            self.z.requires_grad_(needed)
            self.slope = self._evaluated()[:, None]
            self.at = Linearisation(self.z, self.z + self.slope)

    def check(self, rtol: float, atol: float) -> None:
        """Raise `NoConvergence` where the state still moves."""
        y, slope = self.z.detach()[:, 0], self.slope.detach()[:, 0]
        size = (slope / (atol + rtol * y.abs())).square().mean(1).sqrt().cpu()  # (rows,)
        moving = ~(size <= 1)
        if bool(moving.any()):
            worst = int(size.nan_to_num(torch.inf).argmax())
            rate = float(slope[worst].square().mean().sqrt())
            raise NoConvergence(
                f"the state at the end is not steady: |f(t1, y1)| is up to {float(size[worst]):.3g} times "
                f"atol + rtol |y1| (rtol={rtol:g}, atol={atol:g}), {rate:.3g} in the root mean square",
                hint="Integrate for longer, to tighter tolerances of the controller, or loosen those of Implicit; if "
                "the state never comes to rest, use the gradient Checkpoint.",
                samples=self.rows[moving].tolist(),
            )

    def pull(self, grad: Tensor) -> Tensor:
        """What arrives at f(t₁, y₁): −(∂f/∂y)⁻ᵀ times what arrives at y₁, `(rows, n)`.

        Raises:
            NoConvergence: if the equations cannot be solved.
        """
        one = torch.ones(1, 1, dtype=grad.dtype, device=grad.device)
        inverse: Inverse = self.newton.inverse(self.at, one, self.layout.eps**EXACT)
        try:
            return inverse.transposed(grad[:, None])[:, 0]
        except NoConvergence as failure:
            samples = self.rows[list(failure.samples)].tolist()
            hint = (
                "Raise `dense` of Implicit to the numbers of a sample; where ∂f/∂y is singular, there is no gradient."
            )
            raise NoConvergence(failure.what, hint=hint, samples=samples) from None

    def ys(self) -> State:
        """The kept states, linked to what the last ones depend on."""
        y0 = self.problem.y0
        rest = self.layout.state(_AtRest.apply(self, self.slope[:, 0], *leaves(y0)))  # type: ignore[no-untyped-call]
        index = self.rows.to(self.z.device)

        def among(whole: Tensor, found: Tensor) -> Tensor:
            return found if len(index) == self.problem.batch else whole.index_copy(0, index, found)

        y1 = each(among, self._last(), rest)
        if self.problem.saveat.final:
            return each(lambda leaf: leaf[None], y1)
        if self.problem.ragged:
            return each(lambda a, b: torch.stack([a, b], 1).flatten(0, 1), y0, y1)
        return each(lambda a, b: torch.stack([a, b]), y0, y1)

    def _last(self) -> State:
        """The states at the end of all samples."""
        if self.problem.ragged:
            return each(lambda leaf: leaf[1::2], self.path.ys)
        return self.path.y1

    def _of_rows(self, tree: State) -> State:
        if len(self.rows) == self.problem.batch:
            return each(torch.clone, tree)
        return each(lambda leaf: leaf[self.rows.to(leaf.device)], tree)

    def _evaluated(self) -> Tensor:
        """f(t₁, y₁) of the rows, `(rows, n)`; refuses a field that uses undeclared tensors."""
        p, t1 = self.problem, self.problem.ends[1]
        term, index = p.term, self.rows.to(self.z.device)
        if len(index) < p.batch:
            term, t1 = term.rows(index), t1[index] if isinstance(t1, Tensor) else t1
        slope = self.layout.flat(term.vf(t1, self.layout.state(self.z[:, 0])))
        refuse_undeclared([slope], [self.z, *term.tensors(*p.ends)])
        return slope


class _AtRest(torch.autograd.Function):
    """The steady state as a function of what the slope there depends on; of the state at the start, a constant."""

    @staticmethod
    def forward(ctx: Any, steady: _Steady, slope: Tensor, *y0: Tensor) -> Tensor:
        ctx.steady, ctx.shapes = steady, y0
        return steady.z.detach()[:, 0].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # the engine builds a graph of the way back
            raise InputError(
                "Implicit gives first derivatives alone; for create_graph=True use the gradient Direct or Checkpoint"
            )
        needs = ctx.needs_input_grad[2:]
        zeros = (torch.zeros_like(leaf) if need else None for leaf, need in zip(ctx.shapes, needs, strict=True))
        return (None, ctx.steady.pull(grads[0]) if ctx.needs_input_grad[1] else None, *zeros)


def _check_outputs(problem: Problem) -> None:
    if problem.saveat.final:
        return
    counts = np.diff(problem.ts.offsets) if isinstance(problem.ts, OwnTimes) else np.array([len(problem.ts)])
    if (counts != 2).any():
        raise InputError(
            f"Implicit got {int(counts.max())} times, and differentiates the state at the last alone; use "
            "saveat=SaveAt(final=True), ts of the start and the end, or the gradient Checkpoint"
        )


def _check_term(problem: Problem) -> None:
    name = type(problem.term).__name__
    if not (isinstance(problem.term, OrdinaryTerm) and problem.term.continuous):
        raise InputError(
            f"Implicit got the term {name}; it needs one field that comes to rest, such as ODETerm(field): for layers, "
            "use the gradient Checkpoint"
        )
    if any(isinstance(layer, _BatchNorm) and layer.training for layer in problem.term.modules()):
        raise InputError(
            f"Implicit solves an equation for each sample, and the term {name} has BatchNorm in training mode, which "
            "mixes samples; use GroupNorm2d or another norm of single samples, or the gradient Checkpoint"
        )
