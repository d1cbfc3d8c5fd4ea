"""On a GPU: training throughput of a ResNet-56 beside one written by hand, and the memory of a RevNet as deep.

ResNet-56 on 32×32 images, batches of 128 and 512, in float32 (with TF32) and under bfloat16 autocast, eagerly and with
the whole network as one graph of `torch.compile`: `DepthNet` beside a module with nothing of deqlight in it and the
same weights. A round is some steps of SGD of each in turn, the device idle before and after; the figure is the median
of the rounds. Then networks with RevNet's coupling: the peak of the device's memory in a step, with the gradient rules
`Direct` and `Reversible`. A case that fails is a row that says why; the script needs torch and numpy alone.

    python benchmarks/gpu.py [--seconds 220] [--out benchmarks/gpu.json]
    python benchmarks/gpu.py --quick --device cpu    # tries it out, anywhere; the numbers mean nothing
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from by_hand import CLASSES, WIDTHS, copied, resnet
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from deqlight.fields import PreActivation
from deqlight.gradients import Direct, Gradient, Reversible
from deqlight.nets import ConvStem, DepthNet, PartitionedStage, PoolHead, Transition
from deqlight.solvers import SymplecticEuler
from deqlight.testing.timing import interleaved, machine, median_ratio, stop_watch

Row = dict[str, Any]
MIB = 2**20


@dataclass(frozen=True)
class Bench:
    """How much is measured, and on what.

    Attributes:
        depth: of the ResNet.
        layers: of each stage of the networks with RevNet's coupling; with four they have a ResNet-56's convolutions.
        backend: of the compiler.
    """

    device: torch.device
    depth: int = 56
    batches: tuple[int, ...] = (128, 512)
    size: int = 32
    layers: tuple[int, ...] = (4, 16)
    rounds: int = 9
    steps: int = 5
    backend: str = "inductor"

    def images(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random images and classes."""
        images = torch.randn(batch, 3, self.size, self.size, device=self.device)
        return images, torch.randint(CLASSES, (batch,), device=self.device)


@dataclass(frozen=True)
class Case:
    """A pair of networks: the batch, whether under bfloat16 autocast, whether compiled."""

    batch: int
    bf16: bool
    compiled: bool

    @property
    def row(self) -> Row:
        """What it is, in words."""
        how = {"precision": "bf16 autocast" if self.bf16 else "float32, TF32", "compiled": self.compiled}
        return {"batch": self.batch, **how}


def step_of(run: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], bf16: bool, steps: int) -> Callable[[], None]:
    """Some steps of SGD on one batch."""
    optimizer, (images, targets) = torch.optim.SGD(run.parameters(), lr=0.01, momentum=0.9), batch

    def several() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(run(images), targets)
            loss.backward()
            optimizer.step()

    return several


def throughput(bench: Bench, case: Case) -> Row:
    """Images a second of both, and the median of the rounds' ratios of time."""
    torch.manual_seed(0)
    net = resnet(bench.depth)
    nets: dict[str, nn.Module] = {"deqlight": net, "by hand": copied(net)}
    batch, clock, row = bench.images(case.batch), stop_watch(bench.device), {}
    runs: dict[str, Callable[[], None]] = {}
    for name, own in nets.items():
        counters.clear()
        run = own.to(bench.device)
        if case.compiled:
            run = torch.compile(run, fullgraph=True, backend=bench.backend)
        runs[name] = step_of(run, batch, case.bf16, bench.steps)
        started = clock()
        step_of(run, batch, case.bf16, 1)()
        row[f"{name}, first step s"] = round(clock() - started, 1)
        if case.compiled:
            row[f"{name}, graphs"] = counters["stats"]["unique_graphs"]
    times = interleaved(runs, bench.rounds, warm_up=2, clock=clock)
    for name, seconds in times.items():
        row[f"{name}, images/s"] = round(case.batch * bench.steps / statistics.median(seconds))
    return {"ratio of time": round(median_ratio(times["deqlight"], times["by hand"]), 3), **row}


def revnet(layers: int, gradient: Gradient) -> DepthNet:
    """Halves as wide as the ResNet's stages; a layer is two residual branches of two convolutions."""
    widths = [2 * width for width in WIDTHS]
    entries = [None, *(Transition(*pair) for pair in pairwise(widths))]
    stages = [
        PartitionedStage(PreActivation, PreActivation, width, layers, entry)
        for width, entry in zip(widths, entries, strict=True)
    ]
    head = PoolHead(widths[-1], CLASSES)
    return DepthNet(ConvStem(3, widths[0]), stages, head, solver=SymplecticEuler(), gradient=gradient)


def memory(bench: Bench, layers: int, rule: Gradient) -> Row:
    """The peak of a training step over what was there before, and images a second, at the largest batch."""
    torch.manual_seed(0)
    size = bench.batches[-1]
    net, batch, clock = revnet(layers, rule).to(bench.device), bench.images(size), stop_watch(bench.device)
    run = step_of(net, batch, bf16=False, steps=1)
    run()  # makes the optimiser's memory, and lets cuDNN choose
    row: Row = {}
    if bench.device.type == "cuda":
        net.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        row["MiB peak"] = round((torch.cuda.max_memory_allocated() - before) / MIB, 1)
    (seconds,) = interleaved({"net": run}, bench.rounds, clock=clock).values()
    return row | {"images/s": round(size / statistics.median(seconds))}


def tried(row: Row, measured: Callable[[], Row]) -> Row:
    """The row with what was measured, or why it was not."""
    started = time.monotonic()
    try:
        found = measured()
    except Exception as error:  # whatever it is, the other cases are measured
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        found = {"failed": f"{type(error).__name__}: {first[:300]}"}
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row | found | {"took s": round(time.monotonic() - started, 1)}


def rows(bench: Bench, seconds: float) -> Iterator[Row]:
    """All cases; compiled ones, which take longest, last, and as many as there is time for."""
    started, longest = time.monotonic(), 0.0
    for bf16 in (False, True):
        for batch in bench.batches:
            case = Case(batch, bf16, compiled=False)
            yield tried(case.row, lambda case=case: throughput(bench, case))
    for layers in bench.layers:
        for rule in (Direct(), Reversible()):
            what = {"network": f"RevNet, {layers} layers a stage", "rule": repr(rule), "batch": bench.batches[-1]}
            yield tried(what, lambda layers=layers, rule=rule: memory(bench, layers, rule))
    for bf16 in (True, False):
        for batch in reversed(bench.batches):
            case, left = Case(batch, bf16, compiled=True), seconds - (time.monotonic() - started)
            if left < longest:
                yield case.row | {"failed": f"not tried: {left:.0f} s were left, and it takes about {longest:.0f}"}
                continue
            row = tried(case.row, lambda case=case: throughput(bench, case))
            longest = max(longest, row["took s"])
            yield row


def table(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each row."""
    for row in found:
        told = "; ".join(f"{name} {value}" for name, value in row.items() if name not in ("compiled", "precision"))
        kind = "compiled" if row.get("compiled") else "eager"
        yield f"{row.get('precision', ''):14} {kind:8} {told}"


def main() -> None:
    """Measure, print, write the JSON as rows come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with --quick")
    parser.add_argument(
        "--quick", action="store_true", help="small networks, nothing inductor compiles, nothing written"
    )
    parser.add_argument("--seconds", type=float, default=220.0, help="no compilation that would end later is begun")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    if given.device != "cuda" and not given.quick:
        raise SystemExit(f"gpu.py measures CUDA devices, not {given.device}; --quick --device cpu tries it out")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py measures a CUDA device, and there is none; --quick --device cpu tries it out")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    bench = Bench(torch.device(given.device))
    if given.quick:
        small = {"depth": 14, "batches": (2, 4), "size": 8, "layers": (1, 2), "rounds": 2, "steps": 1}
        bench = replace(bench, **small, backend="aot_eager")
    found: list[Row] = []
    for row in rows(bench, given.seconds):
        found.append(row)
        print(*table([row]), flush=True)
        if not given.quick:
            told = {"machine": machine() | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}}
            given.out.write_text(json.dumps({**told, "rows": found}, indent=1, ensure_ascii=False) + "\n")
    print(machine())


if __name__ == "__main__":
    main()
