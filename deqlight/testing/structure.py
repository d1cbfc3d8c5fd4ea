"""Station: the measuring bench, its instruments. What a method preserves: the way back, areas, itself."""

from __future__ import annotations

import math

import torch

from ..solvers import ReversibleSolver, Solver
from ..states import each, leaves
from ..terms import ODETerm
from .networks import network
from .probes import pendulum
from .problems import partitioned, problem_for, split
from .trial import biggest, even_grid, stepped

__all__ = ["layers_to_undo", "restart_gap", "symplectic_defect", "term_gap", "undo_gap"]

LAYERS, MEMORY = 200, 1e-3
"""How many layers are done and undone: so many, or as many as leave this share of the solver's memory."""

UNEVEN_STEP = 0.3
"""A step of no special length."""


def layers_to_undo(solver: ReversibleSolver) -> int:
    """How many layers it is fair to undo: as many as shrink the solver's memory by no more than a thousand, or 200."""
    rate = solver.contraction
    return LAYERS if rate >= 1 else min(LAYERS, int(math.log(MEMORY) / math.log(rate)))


@torch.no_grad()
def undo_gap(solver: ReversibleSolver, layers: int = LAYERS) -> float:
    """How far the start is missed, relatively, after so many layers done and undone."""
    term, y0 = network(solver.info, layers)
    edges = [float(n) for n in range(layers + 1)]
    end = stepped(solver, term, y0, edges)
    y, carry = end.y, end.carry
    for n in reversed(range(layers)):
        step = solver.unstep(term.over(edges[n], edges[n + 1]), edges[n], edges[n + 1], y, carry)
        y, carry = step.y, step.carry
    return biggest(each(torch.sub, y, y0)) / biggest(y0)


def symplectic_defect(solver: Solver) -> float:
    """The largest number of JᵀΩJ − Ω, for the Jacobian J of one step on the pendulum."""
    z = torch.tensor([[0.8], [0.6]], dtype=torch.float64, requires_grad=True)  # (q and p, 1)
    end = stepped(solver, pendulum(), (z[:1], z[1:]), [0.0, UNEVEN_STEP])
    rows = [torch.autograd.grad(leaf.sum(), z, retain_graph=True)[0].flatten() for leaf in leaves(end.y)]
    jacobian, omega = torch.stack(rows), torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    return float((jacobian.T @ omega @ jacobian - omega).abs().max())


@torch.no_grad()
def restart_gap(solver: Solver) -> float:
    """The difference that beginning anew in the middle of a solve makes."""
    problem = problem_for(solver.info)
    grid = even_grid(problem, 8)
    whole = stepped(solver, problem.term, problem.y0, grid).y
    half = stepped(solver, problem.term, problem.y0, grid[:5]).y
    return biggest(each(torch.sub, whole, stepped(solver, problem.term, half, grid[4:]).y))


@torch.no_grad()
def term_gap(solver: Solver) -> float:
    """The difference between compound terms, which halve the field or split it, and a field that is the whole."""
    gaps = list[float]()
    for make in (partitioned, split):
        problem = make(torch.float64, 1.0, 1.0).rows([0])
        grid, whole = even_grid(problem, 4), ODETerm(problem.term.vf)
        one, other = (stepped(solver, term, problem.y0, grid).y for term in (problem.term, whole))
        gaps.append(biggest(each(torch.sub, one, other)))
    return max(gaps)
