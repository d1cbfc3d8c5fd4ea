"""What each gradient method keeps for the backward pass, and the most it holds, against the number of steps.

A convolutional field, RK4; a state has 64 KiB, and autograd saves 1 MiB a step. The bytes are those of all tensors that
are alive, whoever holds them (`deqlight.testing.memory`): what autograd saved and what a gradient method keeps itself.
Numbers of bytes do not depend on the machine. `Reversible` needs steps that can be undone: it runs `ReversiblePair`
around RK4, which evaluates the field twice as often, and `Leapfrog`.

    python benchmarks/memory.py [--quick | --draw]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from racing.entrants import Absent, ours, rule
from racing.fields import conv
from rich.console import Console
from rich.table import Table

from deqlight import ODETerm, record
from deqlight.controllers import Constant
from deqlight.gradients import Gradient
from deqlight.solvers import RK4, Leapfrog, ReversiblePair, Solver
from deqlight.testing.memory import gradients, measured_memory
from deqlight.testing.timing import machine

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).with_suffix(".json")
FIGURE = Path(__file__).parents[1] / "docs" / "explanation" / "memory.png"
STEPS = (4, 16, 64, 256, 1024)
SHAPE = (16, 16, 8, 8)

Choice = tuple[Solver, Callable[[int], Gradient]]
RULES: dict[str, Choice] = {
    "Direct": (RK4(), lambda n: rule("Direct")),
    "Checkpoint": (RK4(), lambda n: rule("Checkpoint", None)),
    "Checkpoint(√n)": (RK4(), lambda n: rule("Checkpoint", math.isqrt(n))),
    "Checkpoint(8)": (RK4(), lambda n: rule("Checkpoint", 8)),
    "Reversible, ReversiblePair(RK4)": (ReversiblePair(RK4()), lambda n: rule("Reversible")),
    "Reversible, Leapfrog": (Leapfrog(), lambda n: rule("Reversible")),
    "Backsolve": (RK4(), lambda n: rule("Backsolve")),
}
"""Names, the solver, and what makes the gradient method for a number of steps."""


def measured(name: str, choice: Choice, steps: int) -> dict[str, Any]:
    """One solve, forward and backward."""
    torch.manual_seed(0)
    solver, make = choice
    field, y0 = conv(SHAPE[1], gain=0.3), torch.randn(SHAPE).requires_grad_()
    run = ours(ODETerm(field), y0, (0.0, 1.0), solver, Constant(steps=steps), make(steps))
    inputs = (y0, *field.parameters())
    with record() as solves:
        gradients(run(), inputs)
    memory = measured_memory(run, inputs)
    return {
        "rule": name,
        "steps": steps,
        "MiB kept": round(memory.kept_mib, 3),
        "MiB peak": round(memory.peak_mib, 3),
        "nfe": int(solves[0].nfe[0]),
        "nfe backward": solves[0].nfe_backward,
    }


def rows(counts: Sequence[int]) -> list[dict[str, Any]]:
    """All rules over all numbers of steps; a rule that this deqlight has not is skipped, and said."""
    found = []
    for name, choice in RULES.items():
        try:
            found += [measured(name, choice, steps) for steps in counts]
        except Absent as reason:
            print(f"{name}: skipped, {reason}")
    return found


def show(found: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> None:
    """A table: a row for each rule, kept and peak for each number of steps."""
    table = Table(title="MiB kept / peak, by the number of steps", title_justify="left")
    table.add_column("rule")
    for steps in counts:
        table.add_column(str(steps), justify="right")
    for name in dict.fromkeys(row["rule"] for row in found):
        own = {row["steps"]: row for row in found if row["rule"] == name}
        table.add_row(name, *(f"{own[n]['MiB kept']:.2f} / {own[n]['MiB peak']:.2f}" for n in counts))
    Console(width=130).print(table)


def draw(found: Sequence[Mapping[str, Any]]) -> None:
    """Kept and peak against the number of steps."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharex=True, sharey=True)
    for axes, key, title in zip(panels, ("MiB kept", "MiB peak"), ("kept for the backward pass", "peak"), strict=True):
        for number, name in enumerate(dict.fromkeys(row["rule"] for row in found)):
            points = [(row["steps"], row[key]) for row in found if row["rule"] == name]
            style = {"marker": "osD^vP*X"[number % 8], "markersize": 5, "linewidth": 1.3, "label": name}
            axes.loglog(*zip(*points, strict=True), **style)
        axes.set(xlabel="steps", title=title, xticks=STEPS, xticklabels=STEPS)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="MiB")
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measure, print, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 64 steps, nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what was measured last")
    given = parser.parse_args()
    if given.draw:
        draw(json.loads(RESULTS.read_text())["rows"])
        return
    torch.set_num_threads(1)
    counts = STEPS[:3] if given.quick else STEPS
    found = rows(counts)
    show(found, counts)
    if given.quick:
        return
    about = {"machine": machine(), "state, MiB": torch.Size(SHAPE).numel() * 4 / 2**20, "rows": found}
    RESULTS.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    draw(found)


if __name__ == "__main__":
    main()
