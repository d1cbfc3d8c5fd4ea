"""Station: the measuring bench, its instruments for samplers with noise. The law of their samples, and single paths.

Of Gaussian data a sampler's step is affine in the state and in the noise of each step. A solve in which each row of the
batch has one of these numbers, and no other, tells all coefficients; mean and variance follow, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..brownian import Increments
from ..brownian.on_grid import OnGrid
from ..saveat import SaveAt
from ..schedules import VP
from ..solvers import Solver
from ..solving import solve
from ..states import leaves, like
from ..terms import ReverseSDE
from ..types import State, Tensor, Time
from .problem import Problem
from .quantiles import Mixture
from .trial import even_grid, limit_slope, mean_slope, uneven_grid

__all__ = ["law", "law_order", "path_order", "repeat_gap"]

MEAN, VARIANCE = 0.7, 0.3
"""Of the data. Not those of a standard normal number, for which some samplers are exact."""

SCHEDULE, LEVELS = VP(beta_min=0.1, beta_max=20.0), (20.0, 0.2)
"""One in which α changes, and levels from noise to data."""

STEPS = (128, 160, 192, 224, 256, 320)

EXACT = 1e-12
"""Errors below this are rounding, of steps that go over the noise of 20 to a variance of one third."""

PATHS, FINE = 1200, 2048
"""How many paths are compared, and how many steps the reference takes, of the same sampler."""

PATH_STEPS, PATH_LEVELS = (16, 32, 64, 128), (6.0, 0.5)


@torch.no_grad()
def law_order(solver: Solver, *, uneven: bool = False) -> float:
    """How fast the errors of mean and variance fall, the worse of both; infinite if they are exact.

    Args:
        solver: a sampler of `ReverseSDE`.
        uneven: take steps of 2/3 and 4/3 of the mean length by turns.
    """
    variance, orders = VARIANCE + LEVELS[1] ** 2, list[float]()
    found = [law(solver, steps, uneven=uneven) for steps in STEPS]
    for errors in ([abs(mean - MEAN) for mean, _ in found], [abs(own - variance) for _, own in found]):
        if max(errors) > EXACT:
            orders.append(limit_slope([(1 / n, error) for n, error in zip(STEPS, errors, strict=True)]))
    return min(orders, default=torch.inf)


@torch.no_grad()
def law(solver: Solver, steps: int, *, uneven: bool = False) -> tuple[float, float]:
    """Mean and variance of samples of Gaussian data, which begin with the right law at much noise.

    The second number of each step, which correctors draw, is zero.
    """
    term = ReverseSDE(_gaussian, SCHEDULE)
    levels = (uneven_grid if uneven else even_grid)(Problem(term, *LEVELS, _nothing, geometric=True), steps)
    times = tuple(sorted(levels))
    lengths = torch.tensor(times, dtype=torch.float64).diff()
    w = torch.zeros(steps + 2, steps, 1, dtype=torch.float64)
    w[2:, :, 0] = lengths.sqrt().diag()
    y0 = torch.zeros(steps + 2, 1, dtype=torch.float64)
    y0[1] = 1.0
    drawn = term._replace(path=OnGrid(times, w, w * lengths[:, None] / 2))
    ends = leaves(solve(drawn, y0, levels, solver=solver, saveat=SaveAt(final=True)).y1)[0].flatten()
    start, gain = float(ends[0]), float(ends[1] - ends[0])
    drawn_variance = float((ends[2:] - ends[0]).square().sum())
    return start + gain * MEAN, gain**2 * (VARIANCE + LEVELS[0] ** 2) + drawn_variance


@torch.no_grad()
def path_order(solver: Solver, *, seed: int = 1) -> float:
    """How fast single paths come near those of the same sampler in many steps, along the same Brownian motion."""
    problem = Problem(ReverseSDE(Mixture(torch.float64), SCHEDULE), *PATH_LEVELS, _nothing, geometric=True)
    fine = even_grid(problem, FINE)
    term = ReverseSDE(Mixture(torch.float64), SCHEDULE, brownian=Increments(base=fine, seed=seed))
    y0 = PATH_LEVELS[0] * torch.randn(PATHS, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    run = partial(_end, solver, term, y0)
    exact = run(fine)
    errors = [float((run(fine[:: FINE // steps]) - exact).square().mean().sqrt()) for steps in PATH_STEPS]
    return mean_slope(errors, PATH_STEPS)


@torch.no_grad()
def repeat_gap(solver: Solver) -> float:
    """The difference between two solves whose noise has one seed: zero, unless a sampler draws for itself."""
    term, levels = ReverseSDE(Mixture(torch.float64), SCHEDULE, brownian=Increments(seed=1)), [6.0, 3.0, 1.0, 0.5]
    y0 = torch.linspace(-6.0, 6.0, 6, dtype=torch.float64).reshape(3, 2)
    return float((_end(solver, term, y0, levels) - _end(solver, term, y0, levels)).abs().max())


def _end(solver: Solver, term: ReverseSDE, y0: Tensor, levels: Sequence[float]) -> Tensor:
    return leaves(solve(term, y0, levels, solver=solver, saveat=SaveAt(final=True)).y1)[0]


def _gaussian(rho: Time, y: State) -> Tensor:
    """The noise that is expected in Gaussian data."""
    (leaf,) = leaves(y)
    level = like(rho, leaf)
    return level * (leaf - MEAN) / (VARIANCE + level**2)


def _nothing(rho: float) -> Tensor:
    """No solution: what is asked for is the law."""
    return torch.empty(0)
