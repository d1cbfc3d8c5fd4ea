"""Station: the measuring bench, its instruments. Each measures one number of a solver and knows nothing of claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..gradients import Direct, Gradient
from ..solution import Solution
from ..solvers import ReversibleSolver, Solver, SolverInfo
from ..solving import solve
from ..states import each, leaves, tree_map
from ..terms import Layered, Partitioned, Term
from ..types import State, Tensor
from .problems import pendulum, problem_for

__all__ = [
    "evaluations",
    "gradient_gap",
    "layer_gap",
    "observed_error_order",
    "observed_order",
    "symplectic_defect",
    "undo_gap",
]

LARGEST_ERROR, SMALLEST_ERROR = 1e-3, 1e-13
"""Between these the error is the method's: above, the asymptotic range has not begun; below, rounding, which is some
1e-15 on these problems, takes over. Methods of order 5 need the lower end: their leading error is made small."""

ENOUGH_STEPS, MOST_STEPS = 256, 8192
"""Finer grids than the first are tried only while fewer than three errors are in range; the second ends the search."""


def observed_order(solver: Solver, *, backward: bool = False, uneven: bool = False) -> float:
    """The order of convergence, from the two finest doublings whose errors are neither large nor rounding.

    Args:
        solver: the solver.
        backward: integrate from the end to the start.
        uneven: alternate steps of 2/3 and 4/3 of the mean length.
    """
    errors: list[float] = []
    steps = 8
    while steps <= MOST_STEPS and (len(errors) < 3 or steps <= ENOUGH_STEPS):
        error = _error(solver, steps, backward, uneven)
        if error < SMALLEST_ERROR:
            break
        if error < LARGEST_ERROR:
            errors.append(error)
        steps *= 2
    if len(errors) < 2:
        return float("nan")
    slopes = [_log2(a / b) for a, b in pairwise(errors[-3:])]
    return sum(slopes) / len(slopes)


def evaluations(solver: Solver, steps: int) -> int:
    """Field evaluations of a solve of so many steps, as counted."""
    problem = problem_for(solver.info)
    solution = _solve(solver, problem.term, problem.exact(problem.t0), _grid(problem.t0, problem.t1, steps))
    return int(solution.stats.nfe[0])


def observed_error_order(solver: Solver) -> float:
    """The power of the step that the error estimate of one step shrinks with."""
    problem = problem_for(solver.info)

    def estimate(h: float) -> float:
        t0, y0 = problem.t0, problem.exact(problem.t0)
        carry = solver.init(problem.term, t0, t0 + h, y0)
        error = solver.step(problem.term.over(t0, t0 + h), t0, t0 + h, y0, carry).error
        return float("nan") if error is None else _largest(error)

    first = 0.2
    while estimate(first) > LARGEST_ERROR:
        first /= 2
    sizes = [estimate(first / 2**i) for i in range(3)]
    return sum(_log2(a / b) for a, b in pairwise(sizes)) / 2


def undo_gap(solver: ReversibleSolver, layers: int = 200) -> float:
    """How far the start is missed, relatively, after so many layers done and undone."""
    term, y0 = network(solver.info, layers)
    y, carry = y0, solver.init(term, 0.0, float(layers), y0)
    with torch.no_grad():
        for n in range(layers):
            step = solver.step(term.over(float(n), n + 1.0), float(n), n + 1.0, y, carry)
            y, carry = step.y, step.carry
        for n in reversed(range(layers)):
            step = solver.unstep(term.over(float(n), n + 1.0), float(n), n + 1.0, y, carry)
            y, carry = step.y, step.carry
    return _largest(each(torch.sub, y, y0)) / _largest(y0)


def symplectic_defect(solver: Solver) -> float:
    """The largest number of JᵀΩJ − Ω, for the Jacobian J of one step on the pendulum."""
    term = pendulum()

    def step(z: Tensor) -> Tensor:
        y0 = z[:, :1], z[:, 1:]
        carry = solver.init(term, 0.0, 0.3, y0)
        return torch.cat(leaves(solver.step(term, 0.0, 0.3, y0, carry).y), 1)

    z = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    jacobian = torch.func.jacrev(step)(z).reshape(2, 2)
    omega = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    return float((jacobian.T @ omega @ jacobian - omega).abs().max())


def layer_gap(solver: Solver) -> float:
    """The difference between two layers in one solve and each in a solve of its own."""
    term, y0 = network(solver.info, 2)
    whole = _solve(solver, term, y0, [0.0, 1.0, 2.0]).y1
    half = _solve(solver, term, y0, [0.0, 1.0]).y1
    return _largest(each(torch.sub, whole, _solve(solver, term, half, [1.0, 2.0]).y1))


def gradient_gap(solver: Solver, gradient: Gradient, layers: int = 12) -> float:
    """The largest difference, relatively, between a method's gradients of a network and those of `Direct`."""
    term, y0 = network(solver.info, layers)
    y0 = tree_map(lambda leaf: leaf.requires_grad_(), y0)
    tensors = [*leaves(y0), *term.parameters(), *solver.tensors()]
    found = []
    for method in (Direct(), gradient):
        solution = _solve(solver, term, y0, [float(n) for n in range(layers + 1)], method)
        loss = torch.stack([leaf.square().sum() for leaf in leaves(solution.ys)]).sum()
        found.append(torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True))
    gap = max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
    return gap / max(float(a.abs().max()) for a in found[0])


def network(info: SolverInfo, layers: int) -> tuple[Term, State]:
    """A stack of small random layers of the kind a solver integrates, and a state to start from."""
    generator = torch.Generator().manual_seed(0)
    y0 = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    if info.terms == (Partitioned,):
        halves = (Layered(_Rotation(generator) for _ in range(layers)) for _ in range(2))
        return Partitioned(*halves), (y0, y0.flip(1).clone())
    kind = _Spring if info.derivative == 2 else _Rotation
    return Layered(kind(generator) for _ in range(layers)), y0


class _Layer(nn.Module):
    """A random matrix K and a bias; the fields made of them leave every reversible method stable at any depth."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))


class _Rotation(_Layer):
    """tanh((K − Kᵀ) y + b)/4, whose spectrum is imaginary."""

    def forward(self, t: float, y: Tensor) -> Tensor:
        return torch.tanh(y @ (self.weight - self.weight.T) + self.bias) / 4


class _Spring(_Layer):
    """−Kᵀ tanh(K y + b)/64, whose Jacobian is symmetric and negative."""

    def forward(self, t: float, y: Tensor) -> Tensor:
        return -torch.tanh(y @ self.weight + self.bias) @ self.weight.T / 64


def _error(solver: Solver, steps: int, backward: bool, uneven: bool) -> float:
    problem = problem_for(solver.info)
    start, end = (problem.t1, problem.t0) if backward else (problem.t0, problem.t1)
    solution = _solve(solver, problem.term, problem.exact(start), _grid(start, end, steps, uneven))
    return _largest(each(torch.sub, solution.y1, problem.exact(end)))


def _grid(t0: float, t1: float, steps: int, uneven: bool = False) -> list[float]:
    shift = [(i % 2) / 3 if uneven and 0 < i < steps else 0.0 for i in range(steps + 1)]
    return [t0 + (t1 - t0) * (i + shift[i]) / steps for i in range(steps)] + [t1]


def _solve(
    solver: Solver,
    term: Term,
    y0: State,
    ts: Sequence[float],
    gradient: Gradient = Direct(),  # noqa: B008  a frozen value
) -> Solution:
    return solve(term, y0, ts, solver=solver, gradient=gradient, max_steps=MOST_STEPS)


def _largest(y: State) -> float:
    return max(float(leaf.detach().abs().max()) for leaf in leaves(y))


def _log2(ratio: float) -> float:
    return float(torch.tensor(ratio, dtype=torch.float64).log2())
