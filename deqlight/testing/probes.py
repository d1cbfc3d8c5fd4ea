"""Station: the measuring bench. Problems that bring out one thing: time, structure, the edge of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..solvers import SolverInfo
from ..states import each, leaves
from ..terms import Layered, ODETerm, Partitioned, Split, Term
from ..types import State, Tensor, Time
from .problems import AMPLITUDES, Problem, by_kind, problem_for

__all__ = ["bent", "circling", "pendulum"]


def circling() -> Problem:
    """dz/dt = |z|² i z, which does not depend on time: circles of radius a, run through at speed a², `(3, 2)`."""
    a = torch.tensor(AMPLITUDES, dtype=torch.float64)[:, None]

    def field(t: Time, z: State) -> Tensor:
        (leaf,) = leaves(z)
        return leaf.square().sum(1, keepdim=True) * torch.stack([-leaf[:, 1], leaf[:, 0]], 1)

    return Problem(ODETerm(field), 0.0, 2.0, lambda t: a * torch.cat([torch.cos(a * a * t), torch.sin(a * a * t)], 1))


def pendulum() -> Term:
    """The Hamiltonian system H = p²/2 − cos q."""
    return Partitioned(lambda t, p: p, lambda t, q: -torch.sin(*leaves(q)))


def bent(info: SolverInfo) -> Problem:
    """The smooth problem of one sample on a layer [0, 1]; then, on a layer [1, 2], back at half the speed.

    The field jumps where the layers meet.
    """
    problem = problem_for(info).rows([0])
    term = by_kind(info, BENT)(problem.term)
    return Problem(term, 0.0, 2.0, lambda t: problem.exact(t if t <= 1.0 else 1.5 - t / 2))


def _bent(term: ODETerm) -> Layered:
    return Layered([term.field, lambda t, y: each(lambda f: -0.5 * f, term.field(1.5 - t / 2, y))])


BENT: Mapping[type, Callable[[Any], Term]] = {
    Term: lambda term: _bent(term),
    ODETerm: lambda term: _bent(term),
    Partitioned: lambda term: Partitioned(*map(_bent, term.parts)),
    Split: lambda term: Split(*map(_bent, term.parts)),
}
