"""A sweep over solvers and architectures with Optuna: each trial is one `deqlight fit`, in a process of its own.

    python scripts/sweep.py resnet_digits,midpoint_digits --solvers Euler,Heun -- --trainer.max_epochs 5

takes every pair once. With `--lr 1e-4,1e-1` a learning rate is searched beside them, in as many trials as `--trials`
says. Several processes, on several machines that share the folder, may work at one sweep: start the same line again.
What a trial was is in the study's journal, and its run, with manifest.json, below the folder. Pairs that cannot be, and
trainings that diverge, fail and stay in the table with their reason. It needs the extra `sweep`.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

DONE, FAILED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL


class Failed(Exception):
    """A trial whose training ended badly."""


def main(words: list[str]) -> int:
    """Run a sweep; 1 where no trial of it came to its end."""
    own, options = split(words)
    given = arguments().parse_args(own)
    given.out.mkdir(parents=True, exist_ok=True)
    pairs = {"experiment": given.experiments.split(","), "solver": given.solvers.split(",")}
    grid = given.lr is None
    study = optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(given.out / "journal.log"))),
        sampler=optuna.samplers.GridSampler(pairs, seed=0) if grid else optuna.samplers.TPESampler(seed=0),
        direction=given.direction,
        load_if_exists=True,
    )
    trials = len(pairs["experiment"]) * len(pairs["solver"]) if grid else given.trials
    left = trials - len(study.get_trials(states=(DONE, FAILED)))
    if left > 0:
        study.optimize(lambda trial: score(trial, pairs, given, options), n_trials=left, catch=(Failed,))
    return table(study, given.out / "sweep.csv")


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", help="names or files, with commas between them")
    parser.add_argument("--solvers", required=True, help="with commas between them")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder of the sweep")
    parser.add_argument("--metric", default="val/accuracy", help="of the last epoch, as the run's manifest has it")
    parser.add_argument("--direction", choices=("maximize", "minimize"), default="maximize")
    parser.add_argument("--lr", help="LOW,HIGH: search the learning rate as well")
    parser.add_argument("--trials", type=int, default=20, help="how many, where a learning rate is searched")
    return parser


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and behind `--` those for `deqlight fit`."""
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def score(trial: optuna.Trial, pairs: dict[str, list[str]], given: argparse.Namespace, options: list[str]) -> float:
    """Train, and read the metric from the run's manifest."""
    experiment = trial.suggest_categorical("experiment", pairs["experiment"])
    chosen = [f"--model.net.solver={trial.suggest_categorical('solver', pairs['solver'])}"]
    if given.lr is not None:
        low, high = map(float, given.lr.split(","))
        chosen.append(f"--model.optimizer.lr={trial.suggest_float('lr', low, high, log=True)}")
    place = [f"--runs={given.out}", f"--name=trial_{trial.number}"]
    done = subprocess.run(
        [sys.executable, "-m", "deqlight", "fit", "-c", experiment, *chosen, *place, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")] or [f"code {done.returncode}"]
        trial.set_user_attr("reason", said[-1].removeprefix("error: "))
        raise Failed(said[-1])
    manifest: dict[str, Any] = json.loads((given.out / f"trial_{trial.number}/version_0/manifest.json").read_text())
    trial.set_user_attr("NFE forward", manifest["solver"]["NFE forward"])
    return float(manifest["metrics"][given.metric])


def table(study: optuna.Study, path: Path) -> int:
    """Write a line for each trial, the best first, and print it."""
    done = sorted(study.get_trials(states=(DONE,)), key=lambda trial: trial.value or 0.0)
    best_first = done[::-1] if study.direction == optuna.study.StudyDirection.MAXIMIZE else done
    names = ["number", "state", "score", "experiment", "solver", "lr", "NFE forward", "reason"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for trial in (*best_first, *study.get_trials(states=(FAILED,))):
            told = {"number": trial.number, "state": trial.state.name, "score": trial.value}
            writer.writerow({**told, **trial.params, **trial.user_attrs})
    sys.stdout.write(path.read_text())
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
