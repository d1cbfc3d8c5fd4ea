"""What a neural ODE costs under the Trainer, beside a loop by hand: step_time.py's way of measuring."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .entrants import Absent, library
from .race import BOTH

STEPS, RUNS = 40, 5
MOST = 1.10


def trained(rounds: int, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """A row for deqlight's task, one for torchdyn's `odeint` in a bare Lightning module; at most `RUNS` runs."""
    from step_time import DIGITS, NEURAL_ODE, RK4_STEPS, Bare, Case, ODEByHand, figures, neural_ode, run

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    times = torch.linspace(0.0, 1.0, RK4_STEPS + 1)

    def by_torchdyn(field: nn.Module, x: Tensor) -> Tensor:
        return library("torchdyn.numerics").odeint(field, x, times, "rk4", save_at=times[-1:])[1][-1]

    cases = {
        "deqlight, Classify(DepthNet)": NEURAL_ODE,
        "torchdyn, bare Lightning module": Case(
            lambda: Bare(ODEByHand(neural_ode(), by_torchdyn)), lambda: ODEByHand(neural_ode()), DIGITS
        ),
    }
    rows = []
    for name, case in cases.items():
        try:
            library("torchdyn.numerics" if "torchdyn" in name else "deqlight")
        except Absent as reason:
            say(f"  {name}: skipped, {reason}")
            continue
        found = figures([run(case, STEPS) for _ in range(min(rounds, RUNS))])
        ratio = found["ratio, median of runs"]
        row = {"workload": "Trainer", "entrant": name, "pass": BOTH, "seconds": found["trainer, ms"] / 1e3}
        row |= {"seconds by hand": found["by hand, ms"] / 1e3, "ratios of runs": found["ratio, all runs"]}
        row |= {"same losses as by hand": found["same losses"], "measured": ratio}
        if name.startswith("deqlight"):
            row |= {"target": f"{MOST:g} × loop by hand", "met": ratio <= MOST}
        rows.append(row)
    return rows
