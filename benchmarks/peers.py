"""deqlight against its peers: torchdiffeq, torchode, torchdyn and, for Euler's method, torchsde.

All run in one process on one thread, in turn, round by round; a ratio is the median over the rounds of the ratios of
process CPU time. "floor" is the same number of evaluations of the field and of their gradients, and nothing else
(`racing/floor.py`). Evaluations are counted from outside, by hooks on the field, for every library alike; steps are
measured by each library's own controller, so that their numbers differ a little, and are shown.

The peers are no dependencies of deqlight. Those that are missing are skipped, and said:

    pip install --no-deps torchdiffeq torchode torchdyn==1.0.6 torchcde torchtyping "typeguard<3"
    python benchmarks/peers.py [--rounds 25] [--only "conv"] [--quick]

torchsde integrates stochastic equations; only its Euler–Maruyama method has a counterpart here, and it draws a Brownian
path besides, so that row is no like-for-like figure.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from racing.race import hold
from racing.report import show, write
from racing.trainer import trained
from racing.workloads import races
from rich.console import Console

from deqlight.testing.timing import machine

RESULTS = Path(__file__).with_suffix(".json")
LIBRARIES = ("torchdiffeq", "torchode", "torchdyn", "torchsde")


def versions() -> dict[str, str]:
    """The peers' versions."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed: its rows are skipped")
    return found


def held(only: str, rounds: int, console: Console) -> list[dict[str, Any]]:
    """Hold all races whose name contains `only`, and print their tables; the rows of all."""
    rows = []

    def one(name: str, about: str, measure: Callable[[], list[dict[str, Any]]]) -> None:
        if only not in name:
            return
        console.print(f"[bold]{name}[/]: {about}", highlight=False)
        found = measure()
        show(name, found, console)
        rows.extend(found)

    for race in races():
        one(race.name, race.about, lambda race=race: hold(race, rounds))
    one("Trainer", "a neural ODE, RK4, under the Trainer and in a loop by hand", lambda: trained(rounds))
    return rows


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default="", help="races whose name contains this; nothing is written")
    parser.add_argument("--quick", action="store_true", help="three rounds, nothing written")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # the peers' own
    torch.set_num_threads(1)
    rounds = 3 if given.quick else given.rounds
    console = Console(width=None if sys.stdout.isatty() else 165)
    about = machine() | versions()
    rows = held(given.only, rounds, console)
    missed = [row for row in rows if not (row.get("met", True) and row.get("MiB met", True))]
    told = f"{sum('target' in row for row in rows)} targets; not met: {len(missed)}"
    console.print(f"{told}; failed: {sum('failed' in row for row in rows)} entrants", highlight=False)
    if not (given.quick or given.only):
        write(RESULTS, about, rounds, rows)


if __name__ == "__main__":
    main()
