"""Station 1, the bench: its table, and the same numbers for a file."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from .. import __version__
from ..testing.timing import machine
from .bench_gradients import EXACT
from .bench_plan import Choice, Plan
from .bench_rows import BOTH, FORWARD, Refused, Row

__all__ = ["Found", "lines", "plain", "table"]

CHOSEN = ("solver", "controller", "gradient")


@dataclass(frozen=True)
class Found:
    """All that was measured."""

    batch: int
    """Samples in the batch."""
    rows: Sequence[Row]
    """One for each choice that can be run."""
    refused: Sequence[Refused]
    """The others."""
    doubt: float | None
    """How far the exact solution's gradient may itself be off, relatively: its difference to another solver's.
    None where there is none to compare with."""


def table(plan: Plan, found: Found) -> Table:
    """A row for each choice; columns that would be empty are left out."""
    paced, exact = bool(plan.asked("controller")), found.doubt is not None
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("solver", lambda row: row.choice.solver or plan.own("solver")),
        *([("controller", lambda row: (row.choice.controller or "").replace(":", " "))] if paced else []),
        ("gradient", lambda row: row.choice.gradient or plan.own("gradient")),
        ("forward, ms", lambda row: _time(row, FORWARD)),
        ("+ backward, ms", lambda row: _time(row, BOTH)),
        ("NFE", lambda row: f"{row.nfe:.4g}"),
        ("back", lambda row: f"{row.nfe_backward:.4g}"),
        ("steps", lambda row: f"{row.accepted:.4g} + {row.rejected:.3g}" if row.rejected else f"{row.accepted:.4g}"),
        ("MiB", lambda row: f"{row.memory.kept_mib:.1f}" if row.memory else "–"),
        ("peak", lambda row: f"{row.memory.peak_mib:.1f}" if row.memory else "–"),
        ("Δ Direct", lambda row: _gap(row.against_direct)),
        *([("Δ exact", lambda row: _gap(row.against_exact))] if exact else []),
    ]
    shown = Table(title=Text(_title(plan, found)), title_justify="left")
    shown.caption, shown.caption_justify = _caption(plan, found), "left"
    for name, _ in columns:
        shown.add_column(name, justify="left" if name in CHOSEN else "right", overflow="fold")
    for row in found.rows:
        shown.add_row(*(cell(row) for _, cell in columns))
    return shown


def _title(plan: Plan, found: Found) -> str:
    parameters, about = sum(p.numel() for p in found.rows[0].inputs), machine()
    threads = "1 thread" if about["threads"] == 1 else f"{about['threads']} threads"
    device = f"{about['cpu']}, {threads}" if plan.device.type == "cpu" else about.get("gpu", plan.device.type)
    return f"{plan.experiment.name}: {parameters:,} parameters, a batch of {found.batch}, on {device}"


def _caption(plan: Plan, found: Found) -> str:
    told = (
        "Medians over rounds in which all take turns; × is times the first row. NFE: evaluations of fields per sample, "
        "forward, and back. steps: taken + thrown away. MiB: kept for the backward pass; peak: held at most by both. "
        "Δ Direct: relative difference of the gradient to that through the same solver's steps"
    )
    if found.doubt is None:
        return f"{told}."
    reference = f"{EXACT} at {plan.settings['reference']:g}, float64, itself sure to {found.doubt:.0e}"
    return f"{told}; Δ exact: to that of the exact solution ({reference})."


def _time(row: Row, part: str) -> str:
    return f"{1e3 * statistics.median(row.times[part]):.1f} ×{row.ratios[part]:.2f}"


def _gap(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.0e}"


def lines(plan: Plan, found: Found) -> list[Text]:
    """A line for each choice that cannot be run."""
    return [Text.assemble((_label(plan, one.choice), "bold"), f": {_short(one.reason)}") for one in found.refused]


def _label(plan: Plan, choice: Choice) -> str:
    parts = (choice.solver or plan.own("solver"), choice.controller, choice.gradient or plan.own("gradient"))
    return ", ".join(part for part in parts if part)


def _short(reason: str) -> str:
    """The first clause of a refusal: what was given, and what is the matter."""
    for end in ("; ", ". ", ": ", " ("):
        reason = reason.partition(end)[0]
    return reason


def plain(plan: Plan, found: Found) -> dict[str, Any]:
    """All numbers, for a file."""
    return {
        "experiment": plan.experiment.name,
        "machine": machine(),
        "device": str(plan.device),
        "deqlight": __version__,
        "parameters": sum(p.numel() for p in found.rows[0].inputs) if found.rows else None,
        "batch": found.batch,
        "rounds": plan.settings["rounds"],
        "doubt of exact": found.doubt,
        "rows": [_plain_row(plan, row) for row in found.rows],
        "refused": [{"choice": _label(plan, one.choice), "reason": one.reason} for one in found.refused],
    }


def _plain_row(plan: Plan, row: Row) -> dict[str, Any]:
    times = {f"seconds {part}": statistics.median(row.times[part]) for part in (FORWARD, BOTH)}
    return {
        "solver": row.choice.solver or plan.own("solver"),
        "controller": row.choice.controller or plan.own("controller"),
        "gradient": row.choice.gradient or plan.own("gradient"),
        **times,
        **{f"ratio {part}": row.ratios[part] for part in (FORWARD, BOTH)},
        "nfe": row.nfe,
        "nfe backward": row.nfe_backward,
        "accepted": row.accepted,
        "rejected": row.rejected,
        "bytes kept": row.memory and row.memory.kept,
        "bytes peak": row.memory and row.memory.peak,
        "gradient against Direct": row.against_direct,
        "gradient against exact": row.against_exact,
    }
