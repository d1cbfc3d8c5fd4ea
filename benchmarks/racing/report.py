"""The table of a race, and the file of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def _number(form: str, key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: form.format(row[key]) if key in row else ""


COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "entrant": lambda row: row["entrant"],
    "pass": lambda row: row["pass"],
    "ms": lambda row: f"{1e3 * row['seconds']:.2f}",
    "× floor": _number("{:.3f}", "ratio to floor"),
    "× torchdiffeq": _number("{:.3f}", "ratio to torchdiffeq"),
    "NFE": _number("{}", "nfe"),
    "per sample": lambda row: "" if row.get("nfe per sample") == row.get("nfe") else f"{row['nfe per sample']:.1f}",
    "back": _number("{}", "nfe backward"),
    "VJP": _number("{}", "products"),
    "MiB kept": lambda row: _number("{:.1f}", "MiB kept")(row) + _number(" ≤ {:g}", "target MiB")(row),
    "measured": _number("{:.3f}", "measured"),
    "target": _number("≤ {}", "target"),
}
"""Heads and what stands below. NFE: calls of the field in the forward pass, and sample by sample where those differ;
back: calls in the backward pass; VJP: evaluations that were differentiated."""


def show(title: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table of the rows of one workload, without the columns that would be empty."""
    rows = [row for row in rows if "failed" not in row]  # those were told
    cells = {head: [cell(row) for row in rows] for head, cell in COLUMNS.items()}
    cells = {head: column for head, column in cells.items() if any(column)}
    table = Table(title=Text(title), title_justify="left")
    for head in (*cells, ""):
        table.add_column(head, justify="left" if head in ("entrant", "pass", "target") else "right", overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(column[number] for column in cells.values()), _verdict(row))
    console.print(table)


def _verdict(row: Mapping[str, Any]) -> Text:
    found = [row[key] for key in ("met", "MiB met") if key in row]
    if not found:
        return Text("")
    return Text("met", "green") if all(found) else Text("NOT met", "red")


def write(path: Path, machine: Mapping[str, Any], rounds: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what was measured and where."""
    found = {"machine": machine, "rounds": rounds, "rows": rows}
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
