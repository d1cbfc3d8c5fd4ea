"""Station: the measuring bench, its claims. What a solver says of stochastic equations."""

from __future__ import annotations

import math

from ..solvers import Solver
from ..types import Noise
from .finding import Finding, Measurement, close
from .noise import calculus_gap, strong_order, weak_order

__all__ = ["NOISE"]

STRONG_WITHIN = 0.15
"""How far an observed strong order may lie from the claimed one: what is left of the next terms, and of 400 paths."""

WEAK_WITHIN = 0.15
"""The same for a weak order; it may be higher, as linear equations are easier than others."""

NEAR = 0.2
"""How far the mean may be from that of the claimed calculus, over how far it is from that of the other."""

STRONG = (
    "The error of single paths shrinks with another power of the step than claimed. Half as fast: ½ g′g (W² − h) is "
    "missing or has a wrong factor; not at all: it is another equation, look at the calculus, at signs, and whether "
    "the increments are those of term.control. Better than claimed: say so."
)
WEAK = (
    "The errors of mean and second moment shrink more slowly than claimed. Not at all: the method solves another "
    "equation, such as the other calculus'; else a coefficient is wrong, or a node."
)
CALCULUS = (
    "The mean of a linear equation with noise is not that of the claimed calculus: Itô's methods evaluate g at the "
    "start of a step, Stratonovich's in the middle or at both ends."
)


def _strong(noise: Noise) -> Measurement[Solver]:
    def measure(solver: Solver) -> Finding:
        return close(solver.info.strong_order[noise], strong_order(solver, noise), STRONG_WITHIN, STRONG)

    return Measurement(f"strong order, {noise}", lambda s: noise in s.info.strong_order, measure)


def _weak(solver: Solver) -> Finding:
    claimed, measured = solver.info.weak_order or 0.0, weak_order(solver)
    ok = not math.isnan(measured) and measured >= claimed - WEAK_WITHIN
    return Finding(f"at least {claimed:g} − {WEAK_WITHIN}", f"{measured:.2f}", ok, WEAK)


def _calculus(solver: Solver) -> Finding:
    share = calculus_gap(solver)
    return Finding(f"{solver.info.calculus}", f"{share:.2g} of the way to the other", share < NEAR, CALCULUS)


def _tells(solver: Solver) -> bool:
    """Whether both calculi differ on what it takes."""
    return solver.info.weak_order is not None and bool({"diagonal", "general"} & solver.info.strong_order.keys())


NOISE = (
    *(_strong(noise) for noise in ("additive", "diagonal", "scalar", "general")),
    Measurement("weak order", lambda s: s.info.weak_order is not None, _weak),
    Measurement("calculus", _tells, _calculus),
)
"""What can be claimed of noise; each stands in `docs/plugin/claims.md`."""
