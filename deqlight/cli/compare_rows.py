"""Station 1, the comparison: what the cells say together. Mean, spread and range over seeds, row by row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .compare_cell import CUDA, KEPT
from .compare_store import FINISHED, Record

__all__ = ["QUANTITIES", "Quantity", "Row", "Spread", "higher_is_better", "metric_of", "metrics_of", "rows", "unit"]

PREFERRED = ("test/accuracy", "test/sliced_wasserstein", "test/loss")
"""What a row is judged by: the first of these that its task logs, or else the first of its test metrics by name."""


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds.

    Args:
        values: one for each seed.
    """

    values: Sequence[float]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """The standard deviation of the sample, by n − 1; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        mean, std = self.mean, self.std
        if not std or not math.isfinite(std):
            return f"{mean:,.0f}" if mean.is_integer() else f"{mean:.4g}"
        places = min(max(1 - math.floor(math.log10(std)), 0), 8)  # two digits of the spread
        return f"{mean:,.{places}f} ± {std:,.{places}f}"


@dataclass(frozen=True)
class Quantity:
    """A column: what it is called, in which unit, and where a cell has it."""

    name: str
    unit: str
    of: Callable[[Record], float | None]

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})"

    def spread(self, records: Iterable[Record]) -> Spread | None:
        """Over the cells that have it; None where none has."""
        values = [float(value) for record in records if (value := self.of(record)) is not None]
        return Spread(values) if values else None


def _memory(kind: str) -> Callable[[Record], float | None]:
    return lambda record: record.get("memory") if record.get("memory is") == kind else None


QUANTITIES = (
    Quantity("parameters", "trained numbers", lambda record: record.get("parameters")),
    Quantity("NFE", "evaluations per sample", lambda record: record["metrics"].get("nfe/forward")),
    Quantity("time", "s/epoch", lambda record: record.get("seconds per epoch")),
    Quantity(f"memory {KEPT}", "MiB", _memory(KEPT)),
    Quantity(f"memory, {CUDA}", "MiB", _memory(CUDA)),
)
"""What a row costs."""


@dataclass(frozen=True)
class Row:
    """An experiment over its seeds."""

    experiment: str
    options: str
    key: str
    finished: Sequence[Record]
    """By seed."""
    failed: Sequence[Record]
    """By seed."""
    metric: str | None
    """What it is judged by; None without a finished cell, or without a metric of the test."""

    @property
    def score(self) -> Spread | None:
        """Of that metric."""
        return None if self.metric is None else metric_of(self.metric).spread(self.finished)


def rows(records: Sequence[Record]) -> list[Row]:
    """The rows of the table, the best of each metric first, and last those of which nothing has finished."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in sorted(records, key=lambda one: int(one["seed"])):
        groups.setdefault((record["experiment"], record["options"], record["key"]), []).append(record)
    return sorted((_row(*key, own) for key, own in groups.items()), key=_rank)


def _row(experiment: str, options: str, key: str, records: Sequence[Record]) -> Row:
    finished = [record for record in records if record["status"] == FINISHED]
    failed = [record for record in records if record["status"] != FINISHED]
    logged = metrics_of(finished)
    metric = next((name for name in PREFERRED if name in logged), logged[0] if logged else None)
    return Row(experiment, options, key, finished, failed, metric)


def _rank(row: Row) -> tuple[bool, str, float, str, str]:
    score = row.score
    value = math.inf if score is None or math.isnan(score.mean) else score.mean
    sign = -1.0 if higher_is_better(row.metric) and math.isfinite(value) else 1.0
    return row.metric is None, row.metric or "", sign * value, row.experiment, row.options


def higher_is_better(metric: str | None) -> bool:
    """Whether a larger value is a better one: accuracies; all others are taken for losses and errors."""
    return metric is not None and "accuracy" in metric


def metrics_of(records: Iterable[Record]) -> list[str]:
    """The names of all that the test logged, sorted."""
    return sorted({name for record in records for name in record["metrics"] if name.startswith("test/")})


def metric_of(name: str) -> Quantity:
    """A metric of the test as a column."""
    return Quantity(name, unit(name), lambda record: record["metrics"].get(name))


def unit(metric: str) -> str:
    """The unit of a metric."""
    return "share of 1" if "accuracy" in metric else "as logged"
