"""Station: the measuring bench. Small random networks of the kind of term that a solver integrates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import nn

from ..solvers import SolverInfo
from ..terms import (
    Denoising,
    DiagonalFlow,
    Layered,
    ODETerm,
    Partitioned,
    ReverseSDE,
    Semilinear,
    Split,
    Stochastic,
    Term,
)
from ..types import State, Tensor
from .equations import quiet
from .problems import by_kind
from .told import denoises, draws, told

__all__ = ["edges", "network"]

WIDTH = 4


def network(info: SolverInfo, layers: int) -> tuple[Term, State]:
    """A stack of small random layers, and a state to start from; each layer is a parameter matrix and a bias."""
    generator = torch.Generator().manual_seed(0)
    y0 = torch.randn(3, WIDTH, generator=generator, dtype=torch.float64)
    kind = _Spring if info.derivative == 2 else _Rotation
    halves = tuple(Layered(kind(generator) for _ in range(layers)) for _ in range(2))
    term = by_kind(info, STACKS)(*halves)
    if Stochastic in info.terms:
        return quiet(term, info, y0), y0
    if isinstance(term, ReverseSDE):
        return told(term, y0), y0
    return term, (y0, y0.flip(1).clone()) if isinstance(term, Partitioned) else y0


def edges(info: SolverInfo, layers: int) -> list[float]:
    """The times of the ends of layers; levels of noise, which cannot begin at 0, are one more, and may have to fall."""
    first = 1 if denoises(info) else 0
    times = [float(n + first) for n in range(layers + 1)]
    return times[::-1] if draws(info) else times


class _Layer(nn.Module):
    """A random matrix K and a bias; the fields made of them leave every reversible method stable at any depth."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(WIDTH, generator=generator, dtype=torch.float64))


class _Rotation(_Layer):
    """tanh((K − Kᵀ) y + b)/4, whose spectrum is imaginary."""

    def forward(self, t: float, y: Tensor) -> Tensor:
        return torch.tanh(y @ (self.weight - self.weight.T) + self.bias) / 4


class _Spring(_Layer):
    """−Kᵀ tanh(K y + b)/64, whose Jacobian is symmetric and negative."""

    def forward(self, t: float, y: Tensor) -> Tensor:
        return -torch.tanh(y @ self.weight + self.bias) @ self.weight.T / 64


def _semilinear(linear: Layered, rest: Layered) -> Term:
    """Each layer with decay rates of its own: the biases of the first stack, made negative."""
    rates = [nn.Parameter(-p.detach().abs()) for p in linear.parameters() if p.dim() == 1]
    return Semilinear(Layered(DiagonalFlow(rate) for rate in rates), rest)


STACKS: Mapping[type, Callable[[Layered, Layered], Term]] = {
    Term: lambda one, other: one,
    ODETerm: lambda one, other: one,
    Partitioned: Partitioned,
    Split: Split,
    Semilinear: _semilinear,
    Denoising: lambda one, other: Denoising(cast(ODETerm, one.layers[0]).field),  # which has no layers
    ReverseSDE: lambda one, other: ReverseSDE(cast(ODETerm, one.layers[0]).field),
}
