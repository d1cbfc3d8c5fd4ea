"""What a GPU makes of deqlight's networks: images a second of ResNet-56 beside the same network by hand, and memory.

A training step is forward, backward and SGD with momentum on random images of CIFAR's shape. Each case runs both
networks by turns, after a warm-up which compiles where that is asked for; a row is the median rate of each and the
median of the ratios of their times. Then the most memory that a RevNet of 56 layers takes with `Direct` and with
`Reversible` gradients. A case that fails is a row with its reason.

    python benchmarks/gpu.py [--steps 30] [--device cuda] [--quick] [--out benchmarks/gpu.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from by_hand import copied, resnet
from torch import nn
from torch.nn import functional as F

from deqlight.fields import PreActivation
from deqlight.gradients import Direct, Gradient, Reversible
from deqlight.nets import ConvStem, DepthNet, PartitionedStage, PoolHead, Transition
from deqlight.solvers import SymplecticEuler
from deqlight.testing.timing import interleaved, machine, median_ratio, stop_watch

DEPTH, BATCHES, PRECISIONS = 56, (128, 512), ("float32", "bfloat16")
ROUNDS_OF = 5
"""Steps that are timed together."""

Row = dict[str, Any]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The precision that a forward pass runs in."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def trained(net: nn.Module, device: torch.device, batch: int, precision: str, compiled: bool) -> Callable[[], None]:
    """Some training steps of a network."""
    images, targets = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    run = torch.compile(net, fullgraph=True) if compiled else net

    def steps() -> None:
        for _ in range(ROUNDS_OF):
            with autocast(device, precision):
                loss = F.cross_entropy(run(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def rate(device: torch.device, batch: int, precision: str, compiled: bool, steps: int) -> Row:
    """The images a second of both networks, and how many times the time of that by hand deqlight's takes."""
    torch.manual_seed(0)
    ours = resnet(DEPTH)
    nets = {"deqlight": ours, "by hand": copied(ours)}
    runs = {name: trained(net.to(device), device, batch, precision, compiled) for name, net in nets.items()}
    times = interleaved(runs, max(steps // ROUNDS_OF, 3), warm_up=2, clock=stop_watch(device))
    rates = {name: round(ROUNDS_OF * batch / statistics.median(found)) for name, found in times.items()}
    return {**rates, "ratio": round(median_ratio(times["deqlight"], times["by hand"]), 4)}


def rev_net(gradient: Gradient) -> DepthNet:
    """A RevNet of 56 layers: nine pairs of branches a stage."""
    stages = [PartitionedStage(PreActivation, PreActivation, 32, 9)]
    for before, width in ((32, 64), (64, 128)):
        stages.append(PartitionedStage(PreActivation, PreActivation, width, 8, Transition(before, width)))
    return DepthNet(ConvStem(3, 32), stages, PoolHead(128, 10), solver=SymplecticEuler(), gradient=gradient)


def memory(device: torch.device, batch: int) -> Row:
    """The most memory of a training step of the RevNet, in MiB."""
    row: Row = {}
    for gradient in (Direct(), Reversible()):
        torch.manual_seed(0)
        steps = trained(rev_net(gradient).to(device), device, batch, "float32", False)
        steps()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            steps()
            row[f"MiB {gradient!r}"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return row


def measured(device: torch.device, steps: int, quick: bool) -> Iterator[Row]:
    """A row for each case."""
    for batch in (8,) if quick else BATCHES:
        for precision in PRECISIONS:
            for compiled in (False,) if quick else (False, True):
                case = {"batch": batch, "precision": precision, "compiled": compiled}
                yield {**case, **told(lambda b=batch, p=precision, c=compiled: rate(device, b, p, c, steps))}
        yield {"batch": batch, "net": "RevNet-56", **told(lambda b=batch: memory(device, b))}


def told(case: Callable[[], Row]) -> Row:
    """The row, or why there is none."""
    try:
        return case()
    except Exception as error:  # the next case may well go
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def main() -> None:
    """Measure, print as it comes, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a few steps of small batches, to see whether it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py needs a CUDA device; on a CPU: --device cpu --quick")
    torch.set_float32_matmul_precision("high")
    device, rows = torch.device(given.device), []
    where = torch.cuda.get_device_name() if device.type == "cuda" else machine()
    for row in measured(device, given.steps, given.quick):
        rows.append(row)
        print(row, flush=True)
        if not given.quick:
            content = {"machine": f"{where}, torch {torch.__version__}", "rows": rows}
            given.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
