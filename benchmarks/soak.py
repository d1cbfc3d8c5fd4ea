"""Training that is killed again and again ends where undisturbed training ends, bit for bit.

An experiment is trained twice, side by side: once undisturbed, and once by processes that are killed with SIGKILL at
random moments, each going on with `--ckpt_path auto` from the last checkpoint. With `--ranks 2` one of the two is
killed, and the other ends by itself. Weights, the optimiser's and the schedule's state, the averaged weights, random
states and the logged means of the last epoch must be equal. It stops by itself: a kill that comes before anything new
was saved costs time and nothing else; once the minutes are over, nothing is killed any more.

    OMP_NUM_THREADS=1 python benchmarks/soak.py [--minutes 40] [--epochs 1000] [--every 120] [--ranks 1] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_suffix(".json")
KILL = (0.4, 1.6)  # of the mean time between kills
PATIENCE = 60  # seconds, for a rank to notice that another one is gone


def start(folder: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """One process of the training."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    log = (folder / "log.txt").open("ab")
    line = [sys.executable, "-m", "deqlight", "fit", *words]
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def ranks(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes of a training: the one that was started, and those that it started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [process.pid, *map(int, children.read_text().split())]


def trained(folder: Path, words: list[str], minutes: float, every: float, seed: int) -> dict[str, int]:
    """Train to the end, killing until the time is over; returns how often, and how many processes it took."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, deadline = random.Random(seed), time.monotonic() + 60 * minutes
    kills = 0
    for attempt in range(1, 10_000):
        process = start(folder, [*words, "--ckpt_path=auto"])
        try:
            now = time.monotonic()
            limit = every * draw.uniform(*KILL) if now < deadline else None
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.kill(draw.choice(ranks(process)), signal.SIGKILL)
            process.wait(PATIENCE)
            kills += 1
            continue
        if code:
            raise SystemExit(f"exit code {code}: {(folder / 'log.txt').read_text()[-2000:]}")
        return {"kills": kills, "processes": attempt}
    raise SystemExit("it never ended")


def end(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The last checkpoint, and the last row of training means."""
    paths = sorted(folder.glob("runs/*/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    with (paths[-1].parents[1] / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    return torch.load(paths[-1], weights_only=True), rows[-1]


def differences(one: Any, two: Any, key: str = "") -> list[str]:
    """Where two checkpoints differ: paths, and counts of a run rather than of its training, left aside."""
    if isinstance(one, dict) and isinstance(two, dict):
        names = sorted({*one, *two}, key=str)
        return [text for name in names for text in differences(one.get(name), two.get(name), f"{key}.{name}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [text for number, pair in pairs for text in differences(*pair, f"{key}[{number}]")]
    both = isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor)
    same = torch.equal(one, two) if both else one is two or (type(one) is type(two) and one == two)
    return [] if same else [f"{key}: {one!r:.60} and {two!r:.60}"]


COMPARED = (
    *("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step"),
    *("epoch", "rng", "noise_seed", "means", "LoopName"),
)


def soak(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Both trainings, and in what they differ."""
    words = ["-c", given.experiment, f"--trainer.max_epochs={given.epochs}", "--trainer.accelerator=cpu"]
    words += ["--last.every_n_steps=5", f"--trainer.devices={given.ranks}"]
    words += ["--trainer.strategy=ddp"] if given.ranks > 1 else []
    began = time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        undisturbed = beside.submit(trained, folder / "whole", words, 0.0, given.every, given.seed)
        counts = trained(folder / "killed", words, given.minutes, given.every, given.seed)
        took = time.monotonic() - began
        undisturbed.result()
    (whole, metrics), (killed, found) = end(folder / "whole"), end(folder / "killed")
    unlike = differences(*({k: c[k] for k in COMPARED if k in c} for c in (whole, killed)))
    unlike += [f"logged {name}" for name in metrics if metrics[name] != found[name]]
    names = ("experiment", "epochs", "every", "ranks", "seed", "minutes")
    known = {**{name: vars(given)[name] for name in names}, "steps": whole["global_step"], "seconds": round(took)}
    return {**known, **counts, "torch": torch.__version__, "differences": unlike}


def main() -> None:
    """Run it, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--experiment", default="edm_points")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--every", type=float, default=120.0, help="mean seconds between kills; a start takes about 6")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = soak(Path(name), given)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    raise SystemExit(1 if result["differences"] else 0)


if __name__ == "__main__":
    main()
