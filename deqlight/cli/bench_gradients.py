"""Station 1, the bench: how good gradients are, beside those through the steps and beside the exact ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_map

from ..terms import Term
from ..types import Tensor
from .bench_plan import Choice, Plan
from .bench_rows import Row, flat_gradient, prepared, refusal

__all__ = ["DIRECT", "EXACT", "against_direct", "against_exact"]

DIRECT, LEAN = "Direct", "Checkpoint"
EXACT, OTHER = "Dopri5", "Tsit5"
"""The solver that finds the exact solution of a continuous network, in float64 and at the tolerance of `--reference`,
and another that tells by its difference how exact that is. Of moderate order: the fields of networks have kinks (ReLU),
where methods of high order take more steps, not fewer.
"""


def against_direct(plan: Plan, rows: Sequence[Row], batch: Any) -> None:
    """Compare the gradients of each solver with those through its own steps."""
    known: dict[Any, Tensor | None] = {}
    known |= {
        _pace(row.choice): row.gradient for row in rows if (row.choice.gradient or plan.own("gradient")) == DIRECT
    }
    for row in rows:
        key = _pace(row.choice)
        if key not in known:
            known[key] = _gradient(plan, replace(row.choice, gradient=DIRECT), batch)
        row.against_direct = _difference(row.gradient, known[key])


def against_exact(plan: Plan, rows: Sequence[Row], batch: Any) -> float | None:
    """Compare all gradients with those of the exact solution, where the network has one: not where it has layers.

    Returns how far those may be off themselves: gradients of fields with kinks converge slowly.
    """
    terms = [module for row in rows[:1] for module in row.task.modules() if isinstance(module, Term)]
    if not terms or not all(term.continuous for term in terms):
        return None
    exact, other = (_tight(plan, solver, batch) for solver in (EXACT, OTHER))
    if exact is None or other is None:
        return None
    for row in rows:
        row.against_exact = _difference(row.gradient, exact)
    return _difference(other, exact)


def _tight(plan: Plan, solver: str, batch: Any) -> Tensor | None:
    """The gradient of the exact solution by one solver; in little memory, where the network lets it."""
    tolerance, double = plan.settings["reference"], tree_map(_double, batch)
    controller = f"PID:rtol={tolerance:g}:atol={tolerance:g}:norm=joint"
    found = (_gradient(plan, Choice(solver, controller, rule), double, torch.float64) for rule in (LEAN, DIRECT))
    return next((gradient for gradient in found if gradient is not None), None)


def _gradient(plan: Plan, choice: Choice, batch: Any, dtype: torch.dtype | None = None) -> Tensor | None:
    """The gradient of a choice alone; None where it cannot be run."""
    try:
        step, inputs = prepared(plan, plan.task(choice, dtype), batch)
        return flat_gradient(step, inputs)
    except Exception as error:
        refusal(error)
        return None


def _pace(choice: Choice) -> tuple[str | None, str | None]:
    return choice.solver, choice.controller


def _difference(found: Tensor, other: Tensor | None) -> float | None:
    """The difference of two gradients relative to the second; None where they are not of the same parameters."""
    if other is None or other.shape != found.shape:
        return None
    return float((found - other).norm() / other.norm())


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
