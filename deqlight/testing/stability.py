"""Station: the measuring bench, its instruments. How far a method is stable along the negative real axis."""

from __future__ import annotations

import math

import torch

from ..solvers import Solver, Step
from ..states import leaves
from ..types import State, Tensor, Time
from .stiff import decay
from .trial import stepped

__all__ = ["stability_interval"]

STEPS, MORE_STEPS, STIFF_SHARE = 64, 256, 8
"""How many steps are taken. Solutions grow if they are larger in the last quarter of them than in the one before: what
begins a multistep method is over then, and a quarter is longer than the slow waves that such methods may have. On the
whole axis, where only implicit methods go, an eighth of that."""

NOTHING = 1e-12
"""Smaller solutions are what rounding left of those that died out."""

SAMPLES, STIFF_SAMPLES = 441, 57
"""How many values of hλ are tried, all in one batch; fewer on the whole axis, where only implicit methods go."""

STIFFEST = 1e12
"""The end of the axis."""

GROWTH = 1e-9
"""What rounding may add to solutions of size one in so many steps."""


@torch.no_grad()
def stability_interval(solver: Solver, farthest: float = math.inf) -> float:
    """How far hλ can go along the negative real axis before solutions of dy/dt = λy grow.

    Args:
        solver: the solver.
        farthest: where to stop looking; to infinity, the axis is sampled in powers of 10, up to 10¹².

    Returns:
        The first of the sampled −hλ at which solutions grow, less one sample; `farthest` if none do.
    """
    steps = STEPS if solver.info.steps == 1 else MORE_STEPS
    if math.isinf(farthest):
        steps //= STIFF_SHARE
        z = torch.cat([torch.zeros(1), torch.logspace(-2, math.log10(STIFFEST), STIFF_SAMPLES - 1)]).double()
    else:
        z = torch.linspace(0.0, farthest, SAMPLES, dtype=torch.float64)
    grows = (_growth(solver, -z, steps) > 1 + GROWTH).nonzero().flatten()
    return float(z[max(int(grows[0]) - 1, 0)]) if len(grows) else farthest


def _growth(solver: Solver, z: Tensor, steps: int) -> Tensor:
    """The largest solution in the last quarter of the steps, over that in the one before: a number for each hλ."""
    y0, sizes = torch.ones(len(z), 1, dtype=torch.float64), list[Tensor]()

    def visit(t0: Time, t1: Time, y0: State, step: Step) -> None:
        sizes.append(leaves(step.y)[0].abs().amax(1).nan_to_num(nan=math.inf))

    stepped(solver, decay(solver.info, z[:, None]), y0, [float(n) for n in range(steps + 1)], visit)
    quarters = torch.stack(sizes).reshape(4, steps // 4, len(z)).amax(1)
    before, last = quarters[2].clamp(min=NOTHING), quarters[3].clamp(min=NOTHING)
    growth: Tensor = last / before
    return growth.nan_to_num(nan=math.inf)
