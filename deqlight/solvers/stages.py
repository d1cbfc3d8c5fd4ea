"""Station: the integrator. Stage equations of implicit methods: a step laid flat, solved for sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ..linear import Factorised, Linearisation
from ..rootfind import Newton, Search, implicit
from ..states import each, leaves, tree_map
from ..terms import Compound, Term
from ..types import Control, State, Tensor, Time
from .base import Inner

__all__ = ["Layout", "Stages", "weighted"]


@dataclass(frozen=True)
class Layout:
    """A state, and all states like it, as one tensor `(batch, n)`: what leaves of several shapes and dtypes make.

    A state without axes is a batch of one.
    """

    y: State

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype that holds all leaves, float32 or better: half precision has no factorisations."""
        dtype = torch.float32
        for leaf in leaves(self.y):
            dtype = torch.promote_types(dtype, leaf.dtype)
        return dtype

    @cached_property
    def eps(self) -> float:
        """The resolution of the coarsest numbers that a field returns."""
        dtypes, device = {leaf.dtype for leaf in leaves(self.y)}, leaves(self.y)[0].device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            dtypes.add(torch.get_autocast_dtype(device))
        return max(torch.finfo(dtype).eps for dtype in dtypes)

    def flat(self, y: State) -> Tensor:
        """The state as `(batch, n)`."""
        parts = [
            leaf.reshape(leaf.shape[:1].numel(), leaf.shape[1:].numel()).to(self.dtype)
            for leaf in leaves(y)  # (batch, numbers of the leaf)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def state(self, x: Tensor) -> State:
        """The state that `x` `(rows, n)` is, of all samples or of some."""
        models = leaves(self.y)
        parts = torch.split(x, [leaf.shape[1:].numel() for leaf in models], 1)
        made = tuple(
            part.reshape(len(x), *leaf.shape[1:]).to(leaf.dtype) if leaf.dim() else part.reshape(()).to(leaf.dtype)
            for part, leaf in zip(parts, models, strict=True)
        )
        return made if isinstance(self.y, tuple) else made[0]


class Stages:
    """The stages of one step: explicit ones evaluated, implicit ones solved for, what each sample costs counted.

    Stages are increments, u = prod(vf(t, y), control), which for an ODE is h f(t, y), laid flat.

    Args:
        newton: how stage equations are solved.
        term: the term, fixed over the step.
        t0: start of the step.
        t1: end of the step.
        y0: the state at `t0`.
    """

    def __init__(self, newton: Newton, term: Term, t0: Time, t1: Time, y0: State) -> None:
        self.newton, self.term, self.t0, self.t1 = newton, term, t0, t1
        self.layout = Layout(y0)
        self.y0 = self.layout.flat(y0)
        self.control = term.control(t0, t1)
        batch = len(self.y0)
        self.nfe = torch.zeros(batch, dtype=torch.int64)
        self.converged = torch.ones(batch, dtype=torch.bool)

    @cached_property
    def tolerance(self) -> Tensor | None:
        """What a stage may be wrong by, `(batch, n)`; None where nothing is said."""
        newton = self.newton
        if newton.rtol is None:
            return None
        atol = torch.as_tensor(newton.atol, dtype=self.y0.dtype, device=self.y0.device)
        whole = self.layout.flat(each(lambda leaf: atol.expand(leaf.shape), self.layout.y))
        return newton.tolerance(whole, self.y0.detach())

    def at(self, node: float) -> Time:
        """The time of a stage."""
        return self.t0 + node * (self.t1 - self.t0)

    def explicit(self, node: float, y: Tensor, term: Term | None = None) -> Tensor:
        """The increment at a stage value `(batch, n)`, of the term or a part of it."""
        term = term or self.term
        self.nfe += cost(term)
        return _increment(term, self.layout, self.at(node), y, self.control)

    def linearised(self) -> Linearisation:
        """The increment at the start of the step with its derivatives; its value is `(batch, 1, n)`."""
        self.nfe += cost(self.term)
        g, wants_grad = _Map(self, self.term, (0.0,)), torch.is_grad_enabled() and self.y0.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            z = self.y0[:, None] if wants_grad else self.y0.detach().clone()[:, None].requires_grad_()
            return Linearisation(z, g(z, None))

    def implicit(
        self,
        nodes: Sequence[float],
        base: Tensor,
        a: Tensor,
        guess: Tensor | None = None,
        inverse: Factorised | None = None,
        term: Term | None = None,
    ) -> tuple[Tensor, Factorised | None]:
        """Stages that depend on themselves: u = prod(vf(t, base + a u), control).

        Args:
            nodes: where in the step they are.
            base: what is known of the stage values, `(batch, n)`.
            a: what couples the stages, `(stages, stages)`, with an inverse.
            guess: stage values to begin with, `(batch, stages, n)`; else, and where it does not serve, those at `t0`.
            inverse: a factorisation near the solution.
            term: the part of the term that is implicit.

        Returns:
            The increments `(batch, stages, n)`, NaN for samples that did not converge, and the last factorisation.
        """
        term = term or self.term
        g, eps = _Map(self, term, tuple(nodes)), self.layout.eps
        back = torch.linalg.inv(a)
        start = (self.y0 - base)[:, None].expand(-1, len(nodes), -1)
        known = None if guess is None else torch.einsum("ij,bjn->bin", back, guess - base[:, None])
        alive = None if bool(self.converged.all()) else self.converged.to(base.device)
        search = Search(self.newton, g, a, eps)
        root = search.run(base, self.tolerance, torch.einsum("ij,bjn->bin", back, start), known, inverse, alive)
        calls = len(nodes) * cost(term)
        self.nfe += calls * root.evaluations
        self.converged &= root.converged
        if not (torch.is_grad_enabled() and (root.differentiable or base.requires_grad)):
            return root.u, root.inverse
        self.nfe += calls * root.converged
        u, found = implicit(self.newton, g, base, a, root, eps)
        return u, found if isinstance(found, Factorised) else root.inverse

    def inner(self) -> Inner:
        """How it went."""
        return Inner(self.nfe, self.converged)


@dataclass
class _Map:
    """Stage values to increments, `(rows, stages, n)`, for some samples."""

    stages: Stages
    term: Term
    nodes: tuple[float, ...]

    def __post_init__(self) -> None:
        times, control = tuple(self.stages.at(node) for node in self.nodes), self.stages.control
        if torch.is_inference_mode_enabled():  # tensors made there cannot be differentiated through
            with torch.inference_mode(False):
                times, control = tree_map(torch.clone, (times, control))
        self.whole = self.term, times, control
        self.last: tuple[Tensor | None, tuple[Term, tuple[Time, ...], Control]] = (None, self.whole)

    def __call__(self, z: Tensor, index: Tensor | None) -> Tensor:
        term, times, control = self._rows(index)
        layout = self.stages.layout
        return torch.stack([_increment(term, layout, t, z[:, i], control) for i, t in enumerate(times)], 1)

    def _rows(self, index: Tensor | None) -> tuple[Term, tuple[Time, ...], Control]:
        if index is None:
            return self.whole
        if self.last[0] is not index:
            term, times, control = self.whole
            picked = tree_map(lambda leaf: leaf[index] if leaf.dim() else leaf, (times, control))
            self.last = index, (term.rows(index), *picked)
        return self.last[1]


def weighted(weights: Sequence[float], stages: Sequence[Tensor], base: Tensor | None = None) -> Tensor:
    """`base + Σ weight · stage`, in which weights that are zero cost nothing."""
    total = torch.zeros_like(stages[0]) if base is None else base
    for weight, stage in zip(weights, stages, strict=True):
        if weight:
            total = torch.add(total, stage, alpha=weight)
    return total


def cost(term: Term) -> int:
    """Field evaluations that one evaluation of the term makes."""
    return sum(cost(part) for part in term.parts) if isinstance(term, Compound) else 1


def _increment(term: Term, layout: Layout, t: Time, y: Tensor, control: Control) -> Tensor:
    return layout.flat(term.prod(term.vf(t, layout.state(y)), control))
