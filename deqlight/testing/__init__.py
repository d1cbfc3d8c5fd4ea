"""The conformance kit: what solvers and gradient rules claim, measured; for ours and for anyone's. Needs no pytest."""

from .claim import Claim
from .conformance import check_solver, claims, report
from .cost import Iterations, counted_evaluations, counted_iterations, counted_over_layers, unconverged_error
from .ddp import Ranks, check_ddp, ddp_report, trained_by_two
from .kinds import changed_kinds
from .law import law, law_order, path_order
from .manners import (
    batch_gap,
    clock_gap,
    copy_gap,
    measured_batch_gap,
    memory_gap,
    nan_failure,
    sharing_gap,
)
from .moments import calculus_gap, weak_order
from .noise import strong_order
from .noise_manners import noisy_batch_gap, noisy_clock_gap, noisy_gradient_gap, noisy_undo_gap, replay_gap
from .order import dense_gap, dense_order, error_order, error_ratio, layer_order, observed_order, stiff_order
from .problems import Problem, problem_for
from .report import Report, Row
from .rulebook import check_gradient, gradient_claims, gradient_report
from .rules import (
    backward_evaluations,
    batch_norm_gap,
    changed_gap,
    context_gap,
    dropout_gap,
    equal_steps_gap,
    kept_kinds,
    layers_gap,
    own_steps_gap,
    own_times_gap,
    pair_gap,
    parameter_gap,
    pickled_gap,
    repeat_gap,
    rule_gap,
    second_gap,
    shared_steps_gap,
    solution_gap,
    stray_gradients,
    undeclared_gap,
    unwatched,
)
from .setting import Setting, setting_for
from .slopes import difference_gap, gradient_gap
from .stability import stability_interval
from .structure import restart_gap, symplectic_defect, term_gap, undo_gap

__all__ = [
    "Claim",
    "Iterations",
    "Problem",
    "Ranks",
    "Report",
    "Row",
    "Setting",
    "backward_evaluations",
    "batch_gap",
    "batch_norm_gap",
    "calculus_gap",
    "changed_gap",
    "changed_kinds",
    "check_ddp",
    "check_gradient",
    "check_solver",
    "claims",
    "clock_gap",
    "context_gap",
    "copy_gap",
    "counted_evaluations",
    "counted_iterations",
    "counted_over_layers",
    "ddp_report",
    "dense_gap",
    "dense_order",
    "difference_gap",
    "dropout_gap",
    "equal_steps_gap",
    "error_order",
    "error_ratio",
    "gradient_claims",
    "gradient_gap",
    "gradient_report",
    "kept_kinds",
    "law",
    "law_order",
    "layer_order",
    "layers_gap",
    "measured_batch_gap",
    "memory_gap",
    "nan_failure",
    "noisy_batch_gap",
    "noisy_clock_gap",
    "noisy_gradient_gap",
    "noisy_undo_gap",
    "observed_order",
    "own_steps_gap",
    "own_times_gap",
    "pair_gap",
    "parameter_gap",
    "path_order",
    "pickled_gap",
    "problem_for",
    "repeat_gap",
    "replay_gap",
    "report",
    "restart_gap",
    "rule_gap",
    "second_gap",
    "setting_for",
    "shared_steps_gap",
    "sharing_gap",
    "solution_gap",
    "stability_interval",
    "stiff_order",
    "stray_gradients",
    "strong_order",
    "symplectic_defect",
    "term_gap",
    "trained_by_two",
    "unconverged_error",
    "undeclared_gap",
    "undo_gap",
    "unwatched",
    "weak_order",
]
