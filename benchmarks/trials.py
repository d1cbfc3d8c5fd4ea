"""What benchmarks share that train and test by the command line: a run, its figures, and a table in a page."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from deqlight.cli.compare_plan import Plan
from deqlight.cli.compare_run import trained
from deqlight.cli.compare_store import FINISHED, Store
from deqlight.cli.line import read
from deqlight.testing.timing import machine

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "configs" / "experiment"
BRIEF = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
"""What makes a run short, to see whether it runs."""

Row = Mapping[str, Any]
Config = dict[str, Any]


def experiment(name: str) -> Config:
    """The content of a shipped experiment."""
    content: Config = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    return content


def run(content: Config, seed: int, brief: Sequence[str] = ()) -> dict[str, float]:
    """Train and test, as a cell of `deqlight compare`; what `deqlight test` logged."""
    with tempfile.TemporaryDirectory() as name:
        trial = Path(name, "trial.yaml")
        trial.write_text(yaml.safe_dump(content))
        words = [str(trial), f"--seeds={seed},", f"--out={name}", "--trainer.accelerator=cpu", *brief]
        plan = Plan(read(["compare", *words]))
        record = trained(plan.cells[0], Store(plan.out))
        if record["status"] != FINISHED:
            raise SystemExit(f"{record['reason']}\n{Path(record['log']).read_text()}")
        return {name: round(value, 5) for name, value in record["metrics"].items()}


def known(results: Path) -> list[Row]:
    """The rows that are there from earlier runs."""
    rows: list[Row] = json.loads(results.read_text())["rows"] if results.exists() else []
    return rows


def kept(rows: Iterator[Row], results: Path, before: Sequence[Row]) -> list[Row]:
    """All rows, written as they come, so that what is measured is not measured again."""
    found = list(before)
    for row in rows:
        found.append(row)
        text = json.dumps({"machine": machine(), "rows": found}, indent=1, ensure_ascii=False)
        results.write_text(text + "\n")
    return found


def shown(rows: Sequence[Row], name: str, figure: Callable[[float], str] = "{:.3f}".format) -> str:
    """The mean over seeds, and the range."""
    values = [row[name] for row in rows]
    return f"{figure(mean(values))} ({figure(min(values))} – {figure(max(values))})"


def write(page: Path, script: str, table: str, rows: Sequence[Row]) -> None:
    """The table into a page, between its marks."""
    begin, end, seeds = f"<!-- made by benchmarks/{script} -->\n", "<!-- end -->\n", len({row["seed"] for row in rows})
    before, rest = page.read_text().split(begin)
    note = f"\nMean over {seeds} seeds, and the range, by `OMP_NUM_THREADS=1 python benchmarks/{script}`.\n"
    page.write_text(before + begin + table + note + end + rest.split(end, 1)[1])


def main(
    doc: str | None,
    script: Path,
    page: Path,
    measured: Callable[[int, Sequence[str], Sequence[Row]], Iterator[Row]],
    table: Callable[[Sequence[Row]], str],
) -> None:
    """A benchmark's command: measure what is missing, keep the numbers, write the table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, one short epoch, nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing, write the table of what is there")
    given = parser.parse_args()
    if given.quick:
        print(table(list(measured(1, BRIEF, ()))))
        return
    results = script.with_suffix(".json")
    before = known(results)
    rows = kept(measured(0 if given.draw else given.seeds, (), before), results, before)
    print(table(rows))
    write(page, script.name, table(rows), rows)
