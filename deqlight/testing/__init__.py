"""The conformance kit: what a solver claims, measured; for ours and for anyone's. Needs no pytest."""

from .conformance import Claim, check_solver, claims, report
from .cost import Iterations, counted_evaluations, counted_iterations, counted_over_layers, unconverged_error
from .kinds import changed_kinds
from .manners import (
    batch_gap,
    clock_gap,
    copy_gap,
    measured_batch_gap,
    memory_gap,
    nan_failure,
    sharing_gap,
)
from .order import dense_gap, dense_order, error_order, error_ratio, layer_order, observed_order, stiff_order
from .problems import Problem, problem_for
from .report import Report, Row
from .slopes import difference_gap, gradient_gap
from .stability import stability_interval
from .structure import restart_gap, symplectic_defect, term_gap, undo_gap

__all__ = [
    "Claim",
    "Iterations",
    "Problem",
    "Report",
    "Row",
    "batch_gap",
    "changed_kinds",
    "check_solver",
    "claims",
    "clock_gap",
    "copy_gap",
    "counted_evaluations",
    "counted_iterations",
    "counted_over_layers",
    "dense_gap",
    "dense_order",
    "difference_gap",
    "error_order",
    "error_ratio",
    "gradient_gap",
    "layer_order",
    "measured_batch_gap",
    "memory_gap",
    "nan_failure",
    "observed_order",
    "problem_for",
    "report",
    "restart_gap",
    "sharing_gap",
    "stability_interval",
    "stiff_order",
    "symplectic_defect",
    "term_gap",
    "unconverged_error",
    "undo_gap",
]
