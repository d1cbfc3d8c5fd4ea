"""Does a classifier notice what it has never seen? SDE-Net, a deep ensemble and a plain softmax, on two tests.

Two moons against far points, and digits against 8×8 grey patches of photographs: each network is trained on the first
and asked for both. A doubt ranks the test samples; AUROC is how often an outside sample has more doubt than an inside
one, FPR95 the share of outside samples that pass where 95 % of the inside ones do. Everything runs through the command
line, from the experiments in configs/; the softmax is the first member of the ensemble, trained alone. The numbers of a
run go to ood.json as they come, and a run that is there is not repeated; the table goes into docs/howto/uncertainty.md.

    OMP_NUM_THREADS=1 python benchmarks/ood.py [--seeds 3 | --quick | --draw]
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from deqlight.testing.timing import machine

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "howto" / "uncertainty.md"
BEGIN, END = "<!-- made by benchmarks/ood.py -->\n", "<!-- end -->\n"
EXPERIMENTS = ROOT / "configs" / "experiment"
TESTS = {"moons": "two moons, far points", "digits": "digits, patches of photographs"}
METHODS = {"sde_net": "SDE-Net", "ensemble": "deep ensemble, 5", "softmax": "softmax of one network"}
DOUBTS = {
    "sde_net": ("diffusion", "entropy", "confidence", "variance", "information"),
    "ensemble": ("entropy", "confidence", "variance", "information"),
    "softmax": ("entropy", "confidence"),
}
"""What ranks the samples; of a single draw variance and information are zero."""

Row = Mapping[str, Any]


def config(method: str, test: str, folder: Path) -> Path:
    """The experiment's file; that of the softmax is made of the ensemble's."""
    if method != "softmax":
        return EXPERIMENTS / f"{method}_{test}.yaml"
    content = yaml.safe_load((EXPERIMENTS / f"ensemble_{test}.yaml").read_text())
    net = content["model"]["init_args"]["net"]["init_args"]
    net["members"] = net["members"][:1]
    path = folder / f"softmax_{test}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(method: str, test: str, seed: int, brief: Sequence[str]) -> dict[str, float]:
    """Train and test; what `deqlight test` logged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["-c", str(config(method, test, folder)), "--name", "run", "--trainer.accelerator=cpu"]
        for command, more in (("fit", brief), ("test", ("--ckpt_path", "best"))):
            line = [sys.executable, "-m", "deqlight", command, *words, f"--seed_everything={seed}", *more]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(line)}\n{done.stdout}{done.stderr}")
        (path,) = folder.glob("runs/run/version_0/test/version_0/metrics.csv")
        with path.open() as file:
            return {name: round(float(value), 5) for name, value in next(csv.DictReader(file)).items() if value}


def measured(seeds: int, brief: Sequence[str], known: Sequence[Row]) -> Iterator[Row]:
    """A row for each run, those that are known first."""
    yield from known
    done = {(row["method"], row["test"], row["seed"]) for row in known}
    for seed in range(seeds):
        for test in TESTS:
            for method in METHODS:
                if (method, test, seed) in done:
                    continue
                found = run(method, test, seed, brief)
                print(method, test, f"seed {seed}:", {k: v for k, v in found.items() if "auroc" in k}, flush=True)
                yield {"method": method, "test": test, "seed": seed, **found}


def shown(rows: Sequence[Row], name: str) -> str:
    """The mean over seeds, and the range."""
    values = [row[f"test/{name}"] for row in rows]
    return f"{mean(values):.3f} ({min(values):.3f} – {max(values):.3f})"


def table(rows: Sequence[Row]) -> str:
    """Markdown: a row for each test, method and doubt."""
    lines = ["| test | network | doubt | AUROC | FPR95 | accuracy | ECE |", "|---|---|---|---|---|---|---|"]
    for test, told in TESTS.items():
        for method, title in METHODS.items():
            own = [row for row in rows if (row["method"], row["test"]) == (method, test)]
            for doubt in DOUBTS[method] if own else ():
                scores = [shown(own, name) for name in (f"auroc_{doubt}", f"fpr95_{doubt}", "accuracy", "ece")]
                lines.append(f"| {told} | {title} | {doubt} | {' | '.join(scores)} |")
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row]) -> None:
    """The table into the page, between its marks."""
    seeds = len({row["seed"] for row in rows})
    before, rest = PAGE.read_text().split(BEGIN)
    note = f"\nMean over {seeds} seeds, and the range, by `OMP_NUM_THREADS=1 python benchmarks/ood.py`.\n"
    PAGE.write_text(before + BEGIN + table(rows) + note + END + rest.split(END, 1)[1])


def main() -> None:
    """Measure what is missing, keep the numbers, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, one short epoch, nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing, write the table of what is there")
    given = parser.parse_args()
    if given.quick:
        brief = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
        print(table(list(measured(1, brief, ()))))
        return
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows: list[Row] = []
    for row in measured(0 if given.draw else given.seeds, (), known):
        rows.append(row)
        RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    print(table(rows))
    write(rows)


if __name__ == "__main__":
    main()
