"""Fields, losses and measures, shared by the tests of gradient methods."""

from __future__ import annotations

import torch
from torch import nn

from deqlight import ODETerm, Partitioned, solve
from deqlight.plugin.builtin import deqlight_solvers
from deqlight.terms import Denoising, MatrixFlow, ReverseSDE, Semilinear, Split, Stochastic
from deqlight.terms.base import nested

EXACT = 1e-10
"""Relative, of two exact gradients in float64."""

OTHERS = {(Stochastic,), (Denoising,), (ReverseSDE,)}
EXAMPLES = [solver for cls in deqlight_solvers() for solver in cls.examples() if solver.info.terms not in OTHERS]
"""All that take terms without noise, of other times than noise."""


class Bent(nn.Module):
    """A nonlinear field that depends on time."""

    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, t, y):
        return torch.tanh(self.linear(y)) * (1 + 0.3 * torch.sin(torch.as_tensor(3 * t))) - 0.2 * y


class Linear(nn.Module):
    """A y."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, t, y):
        return y @ self.matrix.T


class Rated(ODETerm):
    """dy/dt = −rate (y − cos t) with a rate for each sample, which gets a gradient."""

    def __init__(self, rates, own=None, hook=None):
        super().__init__(lambda t, y: -self.own[:, None] * (y - torch.cos(torch.as_tensor(t, dtype=y.dtype))), [rates])
        self.own, self.hook = rates if own is None else own, hook

    def rows(self, index):
        return Rated(self.context[0], self.own[index], self.hook)

    def wrap(self, hook):
        return Rated(self.context[0], self.own, nested(hook, self.hook))


def kinds_of(solver):
    return {kind.__name__ for kind in solver.info.terms}


def bent_for(solver):
    """A nonlinear term that the solver integrates, and a state of three samples."""
    y = torch.randn(3, 4, requires_grad=True)
    kinds = kinds_of(solver)
    if "Partitioned" in kinds:
        return Partitioned(Bent(), Bent()), (y, torch.randn(3, 4, requires_grad=True))
    if "Semilinear" in kinds:
        return Semilinear(MatrixFlow(nn.Parameter(0.3 * torch.randn(4, 4))), Bent()), y
    return (Split(Bent(), Bent()) if "Split" in kinds else ODETerm(Bent())), y


def every_output(ys):
    """A loss of all outputs, each with another weight; NaN, of samples that failed, is left out."""
    parts = ys if isinstance(ys, tuple) else (ys,)
    return sum((p * torch.arange(1, p.numel() + 1).reshape(p.shape) / p.numel()).square().nansum() for p in parts)


def differentiated(term, y0, ts, gradient, loss=every_output, more=(), **options):
    """The solution, and its gradients with respect to the state, the parameters and `more`."""
    solution = solve(term, y0, ts, gradient=gradient, **options)
    tensors = [*(y0 if isinstance(y0, tuple) else (y0,)), *term.parameters(), *more]
    tensors = [tensor for tensor in tensors if tensor.requires_grad]
    return solution, torch.autograd.grad(loss(solution.ys), tensors, allow_unused=True, materialize_grads=True)


def gap(a, b):
    """The largest difference of gradients, relative to their size."""
    return max(float((g - h).abs().max()) for g, h in zip(a, b, strict=True)) / max(float(g.abs().max()) for g in a)


def same_bits(a, b):
    """Whether states are equal to the last bit, NaN to NaN."""
    pairs = zip(*(s if isinstance(s, tuple) else (s,) for s in (a, b)), strict=True)
    return all(torch.equal(p.nan_to_num(7.0), q.nan_to_num(7.0)) for p, q in pairs)
