"""Station: the measuring bench, its claims. What a solver says of stochastic equations."""

from __future__ import annotations

from ..solvers import ReversibleSolver, Solver
from ..types import Noise
from .finding import EXACT, Finding, Measurement, below, close, gap
from .moments import calculus_gap, weak_order
from .noise import strong_order
from .noise_manners import noisy_batch_gap, noisy_clock_gap, noisy_gradient_gap, noisy_undo_gap, replay_gap
from .told import draws

__all__ = ["NOISE"]

STRONG_WITHIN = 0.15
"""How far an observed strong order may lie from the claimed one: next terms and the choice of paths leave 0.1."""

WEAK_WITHIN = 0.15
"""The same for a weak order: nothing is sampled, but next terms may be only half a power of the step away."""

NEAR = 0.2
"""How far the mean may be from that of the claimed calculus, over how far it is from that of the other."""

DIFFERENCES_WITHIN = 1e-6
"""How far central differences may be from a gradient, relatively: far above their own error, some 1e-9."""

UNDONE_WITHIN = 2e-11
"""Rounding that 200 steps done and undone may leave, relatively: 1e-13 a step."""

STRONG = (
    "The error of single paths shrinks with another power of the step than claimed. Half as fast: ½ g′g (W² − h) is "
    "missing or has a wrong factor; not at all: it is another equation, look at the calculus, at signs, and whether "
    "the increments are those of term.control. Better than claimed: say so."
)
WEAK = (
    "The errors of moments shrink with another power of the step than claimed. Not at all: the method solves another "
    "equation, such as the other calculus'; more slowly: a coefficient is wrong, or a node. Better: say so."
)
CALCULUS = (
    "The mean of a linear equation with noise is not that of the claimed calculus: Itô's methods evaluate g at the "
    "start of a step, Stratonovich's in the middle or at both ends."
)

REPLAY = (
    "Two solves that see one Brownian path differ: noise is what term.control(t0, t1) tells, nothing else is drawn."
)
SAMPLES = "With noise, a sample's result depends on its batch: an increment, or a sum of squares, of the whole batch."
CLOCKS = (
    "With noise, time as a tensor, (batch, 1, …) or of no axes, gives another result than time as a float: take the "
    "step from control.dt, its root by states.root, and shape both by like(dt, leaf)."
)
GRADIENT = (
    "With noise, gradients through the steps are not the slopes of the loss: the diffusion, or its derivative along "
    "itself, was detached; terms.derivative keeps the graph."
)
UNDONE = (
    "With noise, doing and undoing steps does not lead back: `unstep` must take the increments of the same interval, "
    "term.control(t0, t1), with the other sign."
)


def _strong(noise: Noise) -> Measurement[Solver]:
    def measure(solver: Solver) -> Finding:
        return close(solver.info.strong_order[noise], strong_order(solver, noise), STRONG_WITHIN, STRONG)

    return Measurement(f"strong order, {noise}", lambda s: noise in s.info.strong_order, measure)


def _weak(solver: Solver) -> Finding:
    return close(solver.info.weak_order or 0.0, weak_order(solver), WEAK_WITHIN, WEAK)


def _calculus(solver: Solver) -> Finding:
    share = calculus_gap(solver)
    return Finding(f"{solver.info.calculus}", f"{share:.2g} of the way to the other", share < NEAR, CALCULUS)


def _tells(solver: Solver) -> bool:
    """Whether both calculi differ on what it takes."""
    return solver.info.weak_order is not None and bool(
        {"diagonal", "scalar", "general"} & solver.info.strong_order.keys()
    )


def _undone(solver: Solver) -> Finding:
    if not isinstance(solver, ReversibleSolver):
        return Finding("has unstep", "is no ReversibleSolver", False, "Derive from ReversibleSolver and define unstep.")
    return below(UNDONE_WITHIN, noisy_undo_gap(solver), UNDONE)


def _replay(solver: Solver) -> Finding:
    apart = replay_gap(solver)
    return Finding("same solution", "same" if apart == 0 else f"apart by {apart:.1e}", apart == 0, REPLAY)


def _noisy(solver: Solver) -> bool:
    """Whether it is asked on networks with noise; samplers are asked the same of the noise that they draw."""
    return bool(solver.info.strong_order) and not draws(solver.info)


NOISE = (
    *(_strong(noise) for noise in ("additive", "diagonal", "scalar", "general")),
    Measurement("weak order", lambda s: s.info.weak_order is not None, _weak),
    Measurement("calculus", _tells, _calculus),
    Measurement("replay, noise", lambda s: _noisy(s) or draws(s.info), _replay),
    Measurement("samples, noise", _noisy, gap(noisy_batch_gap, EXACT, SAMPLES)),
    Measurement("clocks, noise", _noisy, gap(noisy_clock_gap, EXACT, CLOCKS)),
    Measurement("gradient, noise", _noisy, gap(noisy_gradient_gap, DIFFERENCES_WITHIN, GRADIENT)),
    Measurement("undone, noise", lambda s: _noisy(s) and s.info.reversible, _undone),
)
"""What can be claimed of noise; each stands in `docs/plugin/claims.md`."""
