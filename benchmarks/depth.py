"""What a deep network keeps for the backward pass, against its depth: reversible architectures beside their own Direct.

One stage of 16 channels on 8×8 images, 32 of them in a batch: a Hamiltonian network, a hyperbolic one, a RevNet and a
MidPoint network, each by its own solver, with the gradient rules `Direct` and `Reversible`. Kept are the bytes of all
tensors that the forward pass leaves alive, the parameters not among them; the peak has the parameters' gradients in it,
which grow with depth as the parameters do. Each network then takes a step of training. Bytes do not depend on the
machine.

    OMP_NUM_THREADS=1 python benchmarks/depth.py [--quick | --draw]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from deqlight.fields import Antisymmetric, GroupNorm2d, PreActivation, Symmetric
from deqlight.gradients import Direct, Gradient, Reversible
from deqlight.nets import DepthNet, LayeredStage, PartitionedStage, PoolHead, Stage
from deqlight.solvers import Leapfrog, Solver, Stormer, SymplecticEuler
from deqlight.testing.memory import measured_memory
from deqlight.testing.timing import machine

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).with_suffix(".json")
FIGURE = Path(__file__).parents[1] / "docs" / "explanation" / "depth.png"
DEPTHS = (10, 30, 100, 300, 1000)
CHANNELS, IMAGES, SIZE = 16, 32, 8
RULES: tuple[Gradient, ...] = (Direct(), Reversible())


def hamiltonian(depth: int) -> tuple[Stage, Solver]:
    """Steps become shorter with depth, so that the time is the same."""
    h = 2.0 / depth
    return PartitionedStage(lambda c: Symmetric(c, -h), lambda c: Symmetric(c, h), CHANNELS, depth), SymplecticEuler()


def hyperbolic(depth: int) -> tuple[Stage, Solver]:
    """The square of the step length is the field's scale."""
    return LayeredStage(lambda c: Symmetric(c, (2.0 / depth) ** 2), CHANNELS, depth), Stormer()


def revnet(depth: int) -> tuple[Stage, Solver]:
    """Residual branches with two convolutions each."""

    def block(channels: int) -> nn.Module:
        return PreActivation(channels, GroupNorm2d)

    return PartitionedStage(block, block, CHANNELS, depth), SymplecticEuler()


def midpoint(depth: int) -> tuple[Stage, Solver]:
    """Antisymmetric layers, by the two-step midpoint rule."""
    return LayeredStage(lambda c: Antisymmetric(c, 2.0 / depth), CHANNELS, depth), Leapfrog()


NETWORKS: dict[str, Callable[[int], tuple[Stage, Solver]]] = {
    "Hamiltonian": hamiltonian,
    "hyperbolic": hyperbolic,
    "RevNet": revnet,
    "MidPoint": midpoint,
}


def measured(name: str, rule: Gradient, depth: int) -> dict[str, Any]:
    """One training step."""
    torch.manual_seed(0)
    stage, solver = NETWORKS[name](depth)
    net = DepthNet(nn.Identity(), [stage], PoolHead(CHANNELS, 10, GroupNorm2d), solver=solver, gradient=rule)
    images, targets = torch.randn(IMAGES, CHANNELS, SIZE, SIZE), torch.arange(IMAGES) % 10

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(net(images), targets)

    memory, before = measured_memory(loss, list(net.parameters())), loss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = loss()
    return {
        "network": name,
        "rule": type(rule).__name__,
        "depth": depth,
        "MiB kept": round(memory.kept_mib, 3),
        "MiB peak": round(memory.peak_mib, 3),
        "MiB of parameters": round(sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20, 3),
        "loss": [round(float(before.detach()), 4), round(float(after), 4)],
    }


def show(found: Sequence[dict[str, Any]], depths: Sequence[int]) -> None:
    """A row for each network and rule: kept and peak for each depth."""
    table = Table(title="MiB kept / peak, by depth", title_justify="left")
    for title in ("network", "rule", *map(str, depths)):
        table.add_column(title, justify="right" if title.isdigit() else "left")
    for name in NETWORKS:
        for rule in RULES:
            own = [r for r in found if (r["network"], r["rule"]) == (name, type(rule).__name__)]
            table.add_row(name, type(rule).__name__, *(f"{r['MiB kept']:.2f} / {r['MiB peak']:.2f}" for r in own))
    Console(width=130).print(table)


def draw(found: Sequence[dict[str, Any]]) -> None:
    """What is kept against depth."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    for number, name in enumerate(NETWORKS):
        for rule, line in zip(RULES, ("--", "-"), strict=True):
            told = type(rule).__name__
            own = [(r["depth"], r["MiB kept"]) for r in found if (r["network"], r["rule"]) == (name, told)]
            style = {"marker": "osD^"[number], "color": f"C{number}", "markersize": 5, "linewidth": 1.3}
            axes.loglog(*zip(*own, strict=True), line, label=f"{name}, {told}", **style)
    axes.set(xlabel="layers", ylabel="MiB kept for the backward pass", xticks=DEPTHS, xticklabels=DEPTHS)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measure, print, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 100 layers, nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what was measured last")
    given = parser.parse_args()
    if given.draw:
        draw(json.loads(RESULTS.read_text())["rows"])
        return
    torch.set_num_threads(1)
    depths = DEPTHS[:3] if given.quick else DEPTHS
    found = [measured(name, rule, depth) for name in NETWORKS for rule in RULES for depth in depths]
    show(found, depths)
    if not given.quick:
        RESULTS.write_text(json.dumps({"machine": machine(), "rows": found}, indent=1) + "\n")
        draw(found)


if __name__ == "__main__":
    main()
