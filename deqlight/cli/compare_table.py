"""Station 1, the comparison: its table, on the screen and in files."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from .compare_rows import QUANTITIES, Quantity, Row, metric_of, metrics_of
from .compare_store import Record, put

__all__ = ["failures", "labels", "machines", "notes", "screen_table", "write"]

NOTE = (
    "Mean ± standard deviation of the sample (n − 1) over the seeds; the mean alone where all are equal or alone. "
    "NFE: in the test. Time: the median epoch, validation included, without the first. Memory kept for backward: of "
    "tensors that one training step on the first batch keeps, with the trained weights; CUDA peak: the most that was "
    "allocated in the training, weights and optimiser included."
)


def columns(rows: Sequence[Row]) -> list[Quantity]:
    """The scores first, then the costs; those that no row has are left out."""
    scores = [metric_of(name) for name in dict.fromkeys(row.metric for row in rows if row.metric)]
    return [*scores, *(q for q in QUANTITIES if any(q.spread(row.finished) for row in rows))]


def cells_of(row: Row, shown: Iterable[Quantity]) -> list[str]:
    """What stands in the row, column by column."""
    spreads = [quantity.spread(row.finished) for quantity in shown]
    return ["–" if spread is None else str(spread) for spread in spreads]


def labels(rows: Sequence[Row]) -> list[str]:
    """What each row is called: its experiment, with the options that not all rows have."""
    common = _common(rows)
    return [shlex.join([row.experiment, *(o for o in shlex.split(row.options) if o not in common)]) for row in rows]


def _common(rows: Sequence[Row]) -> list[str]:
    """The options that all rows have."""
    first, *others = [shlex.split(row.options) for row in rows] or [[]]
    return [option for option in first if all(option in other for other in others)]


def notes(rows: Sequence[Row]) -> list[str]:
    """What is said beneath the table."""
    common = _common(rows)
    return [NOTE, *([f"All with {shlex.join(common)}"] if common else [])]


def screen_table(rows: Sequence[Row]) -> Table:
    """A row for each experiment; what failed is red."""
    shown = columns(rows)
    table = Table()
    table.add_column("experiment", overflow="fold")
    table.add_column("seeds", justify="right")
    for quantity in shown:
        table.add_column(f"{quantity.name}\n({quantity.unit})", justify="right", overflow="fold")
    for row, label in zip(rows, labels(rows), strict=True):
        count = Text(str(len(row.finished)))
        if row.failed:
            count.append(f" + {len(row.failed)} failed", "bold red")
        table.add_row(Text(label, "" if row.finished else "red"), count, *cells_of(row, shown))
    return table


def failures(rows: Sequence[Row]) -> list[Text]:
    """A red line for each cell that failed."""
    return [Text.assemble((f"{name}: ", "bold red"), (reason, "red")) for name, reason in _failed(rows)]


def machines(records: Sequence[Record]) -> list[str]:
    """A line for each machine and torch on which cells were run."""
    found = []
    for about in (record["machine"] for record in records):
        threads = "1 thread" if about.get("threads") == 1 else f"{about.get('threads')} threads"
        parts = (about.get("cpu"), threads, about.get("gpu"), about.get("system"), f"Python {about.get('python')}")
        found.append(", ".join(str(part) for part in (*parts, f"torch {about.get('torch')}") if part))
    return list(dict.fromkeys(found))


def write(folder: Path, rows: Sequence[Row], records: Sequence[Record]) -> None:
    """Write `cells.csv`, `table.csv` and `table.md`."""
    put(folder / "cells.csv", _cells(records))
    put(folder / "table.csv", _table(rows))
    put(folder / "table.md", _markdown(rows, records))


def _cells(records: Sequence[Record]) -> str:
    """A line for each cell; what failed has status and reason."""
    order = sorted(records, key=lambda record: (record["experiment"], record["options"], record["seed"]))
    shown = [*map(metric_of, metrics_of(order)), *QUANTITIES]
    plain = ("experiment", "options", "seed", "key", "status", "exit code", "reason")
    more = ("epochs", "seconds", "checkpoint is", "checkpoint", "device", "memory failed", "log")
    head = [*plain, *(quantity.title for quantity in shown), *more, "machine"]
    lines = [
        [
            *_plain(record, plain),
            *(quantity.of(record) for quantity in shown),
            *_plain(record, more),
            *machines([record]),
        ]
        for record in order
    ]
    return _csv(head, lines)


def _table(rows: Sequence[Row]) -> str:
    """A line for each row: mean, standard deviation, smallest and largest of every column."""
    finished = [record for row in rows for record in row.finished]
    shown = [*map(metric_of, metrics_of(finished)), *QUANTITIES]
    parts = ("mean", "std", "min", "max")
    head = ["experiment", "options", "key", "finished", "failed", "seeds", "judged by"]
    lines = []
    for row in rows:
        seeds = " ".join(str(record["seed"]) for record in row.finished)
        line = [row.experiment, row.options, row.key, len(row.finished), len(row.failed), seeds, row.metric]
        for quantity in shown:
            spread = quantity.spread(row.finished)
            line += [None] * 4 if spread is None else [spread.mean, spread.std, min(spread.values), max(spread.values)]
        lines.append(line)
    return _csv([*head, *(f"{quantity.title} {part}" for quantity in shown for part in parts)], lines)


def _markdown(rows: Sequence[Row], records: Sequence[Record]) -> str:
    shown = columns(rows)
    head = ["experiment", "seeds", *(quantity.title for quantity in shown)]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row, label in zip(rows, labels(rows), strict=True):
        count = f"{len(row.finished)} + {len(row.failed)} failed" if row.failed else str(len(row.finished))
        lines.append(_line([f"`{label}`", count, *cells_of(row, shown)]))
    told = [*notes(rows), *(f"Measured on {machine}." for machine in machines(records))]
    failed = [f"- {name}: {reason}" for name, reason in _failed(rows)]
    return "\n\n".join(["\n".join(lines), *told, *(["Failed:", "\n".join(failed)] if failed else [])]) + "\n"


def _failed(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Name and reason of each cell that failed."""
    return [
        (f"{label}, seed {record['seed']}", f"failed, exit code {record['exit code']}: {record.get('reason')}")
        for row, label in zip(rows, labels(rows), strict=True)
        for record in row.failed
    ]


def _line(parts: Iterable[str]) -> str:
    return f"| {' | '.join(part.replace('|', chr(92) + '|') for part in parts)} |"


def _plain(record: Record, names: Iterable[str]) -> list[Any]:
    return [record.get(name) for name in names]


def _csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()
