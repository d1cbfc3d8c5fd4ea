"""Station: the measuring bench, its claims. What a method costs, what it remembers, what it preserves."""

from __future__ import annotations

from ..gradients import Reversible
from ..solvers import ReversibleSolver, Solver
from .cost import counted_evaluations, counted_iterations, counted_over_layers, unconverged_error
from .finding import EXACT, Finding, Measurement, below, gap
from .slopes import difference_gap, gradient_gap
from .stiff import STIFF_PARTS
from .structure import layers_to_undo, restart_gap, symplectic_defect, undo_gap
from .told import denoises

__all__ = ["METHODS"]

UNDO_PER_LAYER = 1e-13
"""Rounding that doing and undoing one layer may leave, relatively, where nothing makes it larger."""

GRADIENT_WITHIN = 1e-10
"""How far two exact gradients may differ, relatively, in float64."""

DIFFERENCES_WITHIN = 1e-6
"""How far central differences may be from a gradient, relatively: far above their own error, some 1e-9."""

NEAR = 0.1
"""How far from the solution a converged step of a stiff problem may be, whatever the method; its size is one."""

COUNTS = (8, 16)
"""Numbers of steps at which evaluations are counted."""

COST = (
    "Evaluations of a solve of N steps should be nfe_start + nfe_step·N. More at the start: say nfe_start. A last "
    "stage that is the next step's first is counted once (fsal)."
)
COST_LAYERS = (
    "A network of N layers, one step each, costs as many; with `continuous_field`, which cannot carry a value from one "
    "layer into the next, nfe_start + nfe_step in each."
)
ITERATIONS = (
    "Step.inner.nfe must tell all evaluations of the step, sample by sample: one for each sample in each call of the "
    "field, also those that a Jacobian or a check takes."
)
LEFT_EARLY = (
    "Samples said to have converged are this far from a solution of size one: the iteration was left before it "
    "converged, and Step.inner.converged does not say so."
)
RESTART = (
    "Beginning anew in the middle of a solve changes the result: the step depends on what came before. Say how many "
    "steps it knows of by `steps`."
)
UNDONE = "Doing and undoing layers does not lead back: each line of `unstep` must undo one of `step`, in reverse order."
SYMPLECTIC = "The Jacobian J of a step should satisfy JᵀΩJ = Ω: look at which half moves first, and at what it sees."
REVERSIBLE = (
    "Reversible gives other gradients than Direct: `unstep` must return the memory that `step` started from, too."
)
SILENT = "It has an `unstep`: claim reversible, so that it is measured, or derive from Solver."
DIFFERENCES = (
    "Gradients through the steps are not the slopes of the loss: something was detached, made a number by .item(), or "
    "written in place; an iteration needs the implicit function theorem, or to be differentiated to its end."
)


def _evaluations(solver: Solver) -> Finding:
    start, step = solver.info.nfe_start, solver.info.nfe_step or 0
    counted = [counted_evaluations(solver, n) for n in COUNTS]
    told = ", ".join(f"{count} at {n}" for count, n in zip(counted, COUNTS, strict=True))
    return Finding(_linear(start, step), told, counted == [start + step * n for n in COUNTS], COST)


def _evaluations_layers(solver: Solver) -> Finding:
    info, layers = solver.info, COUNTS[0]
    start, step = info.nfe_start, info.nfe_step or 0
    counted = counted_over_layers(solver, layers)
    told = f"{counted} at {layers}"
    if info.continuous_field:  # begins anew at each layer
        return Finding(f"at least {start + step} N", told, counted >= (start + step) * layers, COST_LAYERS)
    return Finding(_linear(start, step), told, counted == start + step * layers, COST_LAYERS)


def _linear(start: int, step: int) -> str:
    return f"{start} + {step} N" if start else f"{step} N"


def _iterations(solver: Solver) -> Finding:
    found = counted_iterations(solver)
    told = "" if found.converged else ", not all converged"
    ok = found.told == found.counted and found.converged
    return Finding(f"{found.told} told{told}", f"{found.counted} counted", ok, ITERATIONS)


def _undo(solver: Solver) -> Finding:
    if not isinstance(solver, ReversibleSolver):
        return Finding("has unstep", "is no ReversibleSolver", False, "Derive from ReversibleSolver and define unstep.")
    layers = layers_to_undo(solver)
    bound = UNDO_PER_LAYER * layers / solver.contraction**layers
    return below(bound, undo_gap(solver, layers), UNDONE)


def _silent(solver: Solver) -> Finding:
    return Finding("no unstep", "has unstep", False, SILENT)


def _reversible_gradient(solver: Solver) -> Finding:
    return below(GRADIENT_WITHIN, gradient_gap(solver, Reversible()), REVERSIBLE)


def _has_layers(solver: Solver) -> bool:
    return solver.info.nfe_step is not None and not denoises(solver.info)


METHODS = (
    Measurement("evaluations", lambda s: s.info.nfe_step is not None, _evaluations),
    Measurement("evaluations, layers", _has_layers, _evaluations_layers),
    Measurement("iterations", lambda s: s.info.nfe_step is None, _iterations),
    Measurement(
        "converged",
        lambda s: s.info.nfe_step is None and bool(STIFF_PARTS.keys() & s.info.terms),
        gap(unconverged_error, NEAR, LEFT_EARLY),
    ),
    Measurement("one-step", lambda s: s.info.steps == 1, gap(restart_gap, EXACT, RESTART)),
    Measurement("undone", lambda s: s.info.reversible, _undo),
    Measurement("undone, unclaimed", lambda s: isinstance(s, ReversibleSolver) and not s.info.reversible, _silent),
    Measurement("reversible gradient", lambda s: s.info.reversible, _reversible_gradient),
    Measurement("symplectic", lambda s: s.info.symplectic, gap(symplectic_defect, EXACT, SYMPLECTIC)),
    Measurement("gradient", lambda s: True, gap(difference_gap, DIFFERENCES_WITHIN, DIFFERENCES)),
)
"""What can be claimed of a method besides accuracy; each stands in `docs/plugin/claims.md`."""
