"""Station: the measuring bench, its instruments. How a solver behaves with noise: its path, batches, clocks, gradients.

Each is the worst over all kinds of noise that the solver takes, on small networks with noise that depends on the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from ..brownian import Grid, Increment, Increments, Path
from ..saveat import SaveAt
from ..solvers import ReversibleSolver, Solver
from ..solving import solve
from ..states import each, leaves
from ..terms import SDETerm
from ..types import Noise, Tensor, Time
from .law import repeat_gap
from .slopes import nudged_gap
from .told import draws
from .trial import biggest, stepped

__all__ = ["noisy_batch_gap", "noisy_clock_gap", "noisy_gradient_gap", "noisy_undo_gap", "replay_gap"]

SAMPLES, WIDTH, CHANNELS = 3, 2, 2

GRID = tuple(k / 4 for k in range(5))
"""The steps of these short solves; the path is known at the middle of each, too."""

LAYERS = 200
"""How many steps are done and undone."""


@torch.no_grad()
def replay_gap(solver: Solver) -> float:
    """The difference between two solves that see one Brownian path: zero, unless a solver draws for itself."""
    if draws(solver.info):
        return repeat_gap(solver)
    return max(biggest(each(torch.sub, _end(solver, *made), _end(solver, *made))) for made in _noisy(solver, GRID))


@torch.no_grad()
def noisy_batch_gap(solver: Solver) -> float:
    """The difference between samples solved together and each alone, on its own row of one path."""
    gaps = list[float]()
    for term, y0 in _noisy(solver, GRID):
        together = _end(solver, term, y0)
        for i in range(SAMPLES):
            alone = _end(solver, term.rows(torch.tensor([i])), y0[i : i + 1])
            gaps.append(biggest(together[i : i + 1] - alone))
    return max(gaps)


@torch.no_grad()
def noisy_clock_gap(solver: Solver) -> float:
    """The difference between time as a float and as a tensor, of one number and of one for each sample."""
    gaps = list[float]()
    for drawn, y0 in _noisy(solver, GRID):
        term = drawn._replace(path=_Heard(cast(Path, drawn.path)))
        told = stepped(solver, term, y0, GRID).y
        for shape in ((), (SAMPLES, 1)):
            clocks = [torch.full(shape, t, dtype=torch.float64) for t in GRID]
            gaps.append(biggest(each(torch.sub, told, stepped(solver, term, y0, clocks).y)))
    return max(gaps)


def noisy_gradient_gap(solver: Solver) -> float:
    """The largest difference, relatively, between gradients through steps with noise and central differences."""

    def gap(term: SDETerm, y0: Tensor) -> float:
        tensors = [y0.requires_grad_(), *term.parameters(), *solver.tensors()]
        return nudged_gap(lambda: _end(solver, term, y0).square().sum(), tensors)

    return max(gap(*made) for made in _noisy(solver, GRID))


@torch.no_grad()
def noisy_undo_gap(solver: ReversibleSolver) -> float:
    """How far the start is missed, relatively, after so many steps with noise done and undone."""
    gaps, grid = list[float](), [k / LAYERS for k in range(LAYERS + 1)]
    for term, y0 in _noisy(solver, grid):
        y, carry, *_ = stepped(solver, term, y0, grid)
        for t0, t1 in reversed(list(pairwise(grid))):
            y, carry, *_ = solver.unstep(term.over(t0, t1), t0, t1, y, carry)
        gaps.append(biggest(each(torch.sub, y, y0)) / biggest(y0))
    return max(gaps)


class _Heard(Path):
    """A path asked for by any clock, all samples at one time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def increment(self, t0: Time, t1: Time) -> Increment:
        """What it did between the times of the first sample."""
        start, end = (float(t.flatten()[0]) if isinstance(t, Tensor) else t for t in (t0, t1))
        return self.path.increment(start, end)

    def rows(self, index: Tensor) -> Path:
        """The path of the samples `index` alone."""
        return _Heard(self.path.rows(index))


def _end(solver: Solver, term: SDETerm, y0: Tensor) -> Tensor:
    return leaves(solve(term, y0, GRID, solver=solver, saveat=SaveAt(final=True)).y1)[0]


def _noisy(solver: Solver, grid: Sequence[float]) -> Iterator[tuple[SDETerm, Tensor]]:
    """A network for each kind of noise, with a path known on the grid and between, and a start."""
    generator, info = torch.Generator().manual_seed(0), solver.info
    for noise in info.strong_order:
        y0 = torch.randn(SAMPLES, WIDTH, generator=generator, dtype=torch.float64)
        term = SDETerm(
            _Layer(_turning, generator),
            _Layer(DIFFUSIONS[noise], generator),
            noise=noise,
            calculus=info.calculus or "ito",
            brownian=Increments(base=grid, refine=2, seed=1),
            channels=CHANNELS if noise == "general" else None,
        )
        yield term.drawn(y0, Grid(lambda: grid, True), info.area), y0


Form = Callable[[Tensor, Time, Tensor], Tensor]
"""A field of a matrix, time and state."""


class _Layer(nn.Module):
    """A field with a random matrix."""

    def __init__(self, form: Form, generator: torch.Generator) -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))

    def forward(self, t: Time, y: Tensor) -> Tensor:
        return self.form(self.weight, t, y)


def _turning(weight: Tensor, t: Time, y: Tensor) -> Tensor:
    return torch.tanh(y @ (weight - weight.T) + t)


def _alone(weight: Tensor, t: Time, y: Tensor) -> Tensor:
    """Of no state."""
    return 0.5 * torch.tanh(weight[0] + t).expand_as(y)


def _each(weight: Tensor, t: Time, y: Tensor) -> Tensor:
    """Of each number by itself."""
    return 0.5 * torch.sin(weight[0] * y + t)


def _all(weight: Tensor, t: Time, y: Tensor) -> Tensor:
    """Of all numbers."""
    return 0.5 * torch.tanh(y @ weight + t)


def _columns(weight: Tensor, t: Time, y: Tensor) -> Tensor:
    """A column for each Brownian motion."""
    return torch.stack([_all(weight, t, y), _each(weight, t, y)], -1)


DIFFUSIONS: Mapping[Noise, Form] = {"additive": _alone, "diagonal": _each, "scalar": _all, "general": _columns}
