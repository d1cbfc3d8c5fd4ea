"""Stochastic solves against a loop written by hand and against torchsde, on the same work.

dy = f(t, y) dt + g(t, y) dW, both perceptrons with one hidden layer of 64, state (512, 16), diagonal noise, 128 equal
steps in float32 on one thread. The loop by hand is Euler and Maruyama's method as anyone would write it, drawing by
`torch.randn` in each step. Steps of length 0.01 are a second piece of work: their sum in float32 falls short of 1, and
who steps until time is up steps once more, over a sliver. All run in turn, round by round; a ratio is the median over
the rounds of the ratios of process CPU time to the loop by hand. The way back is that of a loss at the end.

    python benchmarks/sde.py [--rounds 15] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchsde
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from deqlight import SaveAt, SDETerm, solve
from deqlight.brownian import Increments
from deqlight.controllers import Constant
from deqlight.gradients import Direct, Gradient, Reversible
from deqlight.solvers import SRK, Euler, Milstein, ReversibleHeun, Solver
from deqlight.testing.timing import machine

RESULTS = Path(__file__).with_suffix(".json")
BATCH, CHANNELS, HIDDEN, STEPS = 512, 16, 64, 128
GRID = [k / STEPS for k in range(STEPS + 1)]
FINAL = SaveAt(final=True)


class Perceptron(nn.Module):
    """A field that does not depend on time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CHANNELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CHANNELS))

    def forward(self, t: float | Tensor, y: Tensor) -> Tensor:
        """The value at `y` `(batch, channels)`."""
        return self.layers(y)


class Twin(nn.Module):
    """Both fields as torchsde has them."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, drift: nn.Module, diffusion: nn.Module) -> None:
        super().__init__()
        self.f, self.g = drift, diffusion


def by_hand(drift: nn.Module, diffusion: nn.Module, y: Tensor, steps: int = STEPS) -> Tensor:
    """Euler and Maruyama's method."""
    dt = 1.0 / steps
    for k in range(steps):
        t = k * dt
        y = y + drift(t, y) * dt + diffusion(t, y) * (torch.randn_like(y) * dt**0.5)
    return y


def entrants(drift: nn.Module, diffusion: nn.Module, y0: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What runs, by name; the first is what the others are compared with."""

    def ours(solver: Solver, key: str, gradient: Gradient = Direct()) -> Callable[[], Tensor]:  # noqa: B008
        calculus = solver.info.calculus or "ito"
        noise = "diagonal" if "general" in solver.info.strong_order else "scalar"
        term = SDETerm(drift, diffusion, noise=noise, calculus=calculus, brownian=Increments(key=key))
        return lambda: solve(term, y0, GRID, solver=solver, gradient=gradient, saveat=FINAL).y1

    def theirs(method: str) -> Callable[[], Tensor]:
        ends, twin = torch.tensor([0.0, 1.0]), Twin(drift, diffusion)
        twin.sde_type = "stratonovich" if method == "reversible_heun" else "ito"
        if method == "reversible_heun":
            options = {"adjoint_method": "adjoint_reversible_heun", "adjoint_params": tuple(twin.parameters())}
            return lambda: torchsde.sdeint_adjoint(twin, y0, ends, method=method, dt=1 / STEPS, **options)[-1]
        return lambda: torchsde.sdeint(twin, y0, ends, method=method, dt=1 / STEPS)[-1]

    return {
        "by hand": lambda: by_hand(drift, diffusion, y0),
        "Euler, key of the rank": ours(Euler(), "rank"),
        "Euler, key of each sample": ours(Euler(), "sample"),
        "torchsde euler": theirs("euler"),
        "Milstein": ours(Milstein(), "rank"),
        "SRK": ours(SRK(), "rank"),
        "torchsde srk": theirs("srk"),
        "ReversibleHeun, Direct": ours(ReversibleHeun(), "rank"),
        "ReversibleHeun, Reversible": ours(ReversibleHeun(), "rank", Reversible()),
        "torchsde reversible_heun": theirs("reversible_heun"),
    }


def decimal(drift: nn.Module, diffusion: nn.Module, y0: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The same with a hundred steps of length 0.01."""
    term = SDETerm(drift, diffusion, noise="diagonal", calculus="ito", brownian=Increments(key="rank"))
    ends, twin = torch.tensor([0.0, 1.0]), Twin(drift, diffusion)
    options = {"solver": Euler(), "controller": Constant(dt=0.01), "saveat": FINAL}
    return {
        "by hand, dt 0.01": lambda: by_hand(drift, diffusion, y0, 100),
        "Euler, dt 0.01": lambda: solve(term, y0, ends, **options).y1,
        "torchsde euler, dt 0.01": lambda: torchsde.sdeint(twin, y0, ends, method="euler", dt=0.01)[-1],
    }


def timed(run: Callable[[], Tensor], backward: bool) -> float:
    """Process CPU time of a run, with the way back or without."""
    start = time.process_time()
    if backward:
        run().square().mean().backward()
    else:
        with torch.no_grad():
            run()
    return time.process_time() - start


def held(rounds: int) -> list[dict[str, Any]]:
    """A row for each entrant and pass."""
    torch.manual_seed(0)
    drift, diffusion, y0 = Perceptron(), Perceptron(), torch.randn(BATCH, CHANNELS)
    return [row for work in (entrants, decimal) for row in _rows(work(drift, diffusion, y0), rounds)]


def _rows(running: dict[str, Callable[[], Tensor]], rounds: int) -> list[dict[str, Any]]:
    """Those of entrants to one piece of work, the first of whom is what the others are compared with."""
    rows = []
    for backward in (False, True):
        times: dict[str, list[float]] = {name: [] for name in running}
        for n in range(rounds + 1):
            for name, run in running.items():
                spent = timed(run, backward)
                if n:  # the first round warms up
                    times[name].append(spent)
        base = next(iter(times.values()))
        for name, spent in times.items():
            ratio = statistics.median(a / b for a, b in zip(spent, base, strict=True))
            told, seconds = "forward+backward" if backward else "forward", statistics.median(spent)
            rows.append({"method": name, "pass": told, "ratio": round(ratio, 3), "seconds": round(seconds, 4)})
    return rows


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = held(2 if given.quick else given.rounds)
    table = Table("method", "pass", "× by hand", "seconds")
    for row in rows:
        table.add_row(row["method"], row["pass"], f"{row['ratio']:.2f}", f"{row['seconds']:.3f}")
    Console().print(table)
    if not given.quick:
        RESULTS.write_text(json.dumps({"machine": machine(), "rounds": given.rounds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
