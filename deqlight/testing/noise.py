"""Station: the measuring bench, its instruments. How fast the error of single paths falls, with noise."""

from __future__ import annotations

import torch

from ..brownian import Increments
from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import solve
from ..states import leaves
from ..types import Noise
from .equations import equations, exact_end
from .law import path_order
from .told import draws
from .trial import mean_slope

__all__ = ["strong_order"]

PATHS, FINE = 1200, 512
"""How many paths the error is the root mean square of, all at once; and how many intervals these are known on."""

STEPS = (8, 16, 32, 64)
"""Numbers of steps; the reference of equations without closed form is that of the finest."""


@torch.no_grad()
def strong_order(solver: Solver, noise: Noise, *, seed: int = 1) -> float:
    """How fast the error of single paths falls with the step: the slope over steps of one set of Brownian paths.

    Of samplers it is that of `path_order`, towards their own paths in many steps.
    """
    if draws(solver.info):
        return path_order(solver, seed=seed)
    equation, calculus = equations[noise], solver.info.calculus or "ito"
    grid = _even(FINE)
    brownian, y0 = Increments(base=grid, seed=seed), equation.starts(PATHS)
    exact, term = exact_end(equation, brownian, y0, grid), equation.term(calculus, brownian)
    errors = []
    for steps in STEPS:
        end = leaves(solve(term, y0, _even(steps), solver=solver, saveat=SaveAt(final=True)).y1)[0]
        errors.append(float((end - exact).square().mean().sqrt()))
    return mean_slope(errors, STEPS)


def _even(steps: int) -> tuple[float, ...]:
    return tuple(k / steps for k in range(steps + 1))
