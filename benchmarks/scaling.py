"""What a second rank costs: two ranks against two processes that know nothing of each other, one thread each.

`OMP_NUM_THREADS=1 python benchmarks/scaling.py [--rounds 3] [--steps 30]` writes benchmarks/scaling.json. Each way of
training runs in processes of its own; rounds take turns, and ratios are of medians over all steps of all rounds. On a
machine of two cores a pair of processes shares the memory bus, so that the pair, and not one process, is what two ranks
are to be held against. "plain meeting" is that pair with a barrier behind each backward pass and nothing exchanged:
what it costs is the machine's unrest, which no way of averaging gradients at each step escapes. By chance of the heap's
layout glibc gives memory back after a step and takes it again in the next, which costs up to a tenth; all ways run with
that switched off.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
BATCH, WARM = 64, 5
KEPT = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
WAYS = ("deqlight alone", "deqlight pair", "deqlight ddp", "plain pair", "plain meeting", "plain ddp")
TWO = ("deqlight ddp", "plain meeting", "plain ddp")
CASES = ("network", "solver")


def net(case):
    """ResNet-20 on 32 × 32 images; or a small field, solved with measured steps."""
    import torch
    from torch import nn

    from deqlight.controllers import PID
    from deqlight.fields import ConcatConv, PreActivation
    from deqlight.gradients import Checkpoint
    from deqlight.nets import ContinuousStage, ConvStem, DepthNet, LayeredStage, PoolHead, Transition
    from deqlight.solvers import Dopri5, Euler

    torch.manual_seed(0)
    if case == "network":
        stages = [
            LayeredStage(PreActivation, 16, 3),
            LayeredStage(PreActivation, 32, 3, entry=Transition(16, 32)),
            LayeredStage(PreActivation, 64, 3, entry=Transition(32, 64)),
        ]
        return DepthNet(ConvStem(3, 16), stages, PoolHead(64, 10), solver=Euler())
    stem = nn.Sequential(ConvStem(3, 8), nn.AvgPool2d(4))
    stage = ContinuousStage(ConcatConv, 8)
    return DepthNet(stem, [stage], PoolHead(8, 10), solver=Dopri5(), controller=PID(1e-3, 1e-3), gradient=Checkpoint(4))


def deqlight_times(case, steps, rank, world, port):
    """Seconds of each step, by deqlight's task and Lightning's trainer."""
    import lightning as L
    import torch

    from deqlight.callbacks import Last
    from deqlight.cli.ranks import settle
    from deqlight.data.batches import Tensors
    from deqlight.data.memory import InMemory
    from deqlight.tasks import Classify

    class Random(InMemory):
        def load(self):
            count = BATCH * world * (steps + WARM)
            generator = torch.Generator().manual_seed(1)
            images = torch.rand(count, 3, 32, 32, generator=generator)
            parts = torch.arange(count)
            return Tensors(images, parts % 10), {"train": parts, "val": parts[: 2 * world], "test": parts[: 2 * world]}

    class Clock(L.Callback):
        def __init__(self):
            self.ends = []

        def on_train_batch_end(self, *_):
            self.ends.append(time.perf_counter())

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    strategy = "auto"
    if world > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)}
        strategy = "ddp"
    gc.freeze()  # as deqlight's command does
    clock, folder = Clock(), tempfile.TemporaryDirectory()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, num_nodes=world, strategy=strategy, limit_val_batches=0,
        num_sanity_val_steps=0, callbacks=[clock, Last(folder.name)], **quiet,
    )  # fmt: skip
    task = Classify(net(case), 10, lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9))
    settle(trainer, None).fit(task, datamodule=Random(BATCH))
    folder.cleanup()
    return [b - a for a, b in zip(clock.ends[WARM:], clock.ends[WARM + 1 :], strict=False)]


def plain_times(case, steps, rank, world, port, how):
    """The same by a loop; two may meet, or be in DistributedDataParallel."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    model = net(case)
    gc.freeze()
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    if how == "ddp":
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images, labels = torch.rand(BATCH * (steps + WARM), 3, 32, 32), torch.arange(BATCH * (steps + WARM)) % 10
    ends = []
    for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        if how == "meeting":
            dist.barrier()
        optimizer.step()
        ends.append(time.perf_counter())
    return [b - a for a, b in zip(ends[WARM:], ends[WARM + 1 :], strict=False)]


def worker(way, case, steps, rank, port):
    """One process of a way: prints its seconds."""
    import torch

    torch.set_num_threads(1)
    kind, how = way.split()
    rank, world = (rank, 2) if how in {"ddp", "meeting"} else (0, 1)
    given = (case, steps, rank, world, port)
    found = deqlight_times(*given) if kind == "deqlight" else plain_times(*given, how)
    print(json.dumps(found), flush=True)
    os._exit(0)  # torch at times aborts when it leaves a group


def run(way, case, steps):
    """Seconds of all steps of one way, of both processes if there are two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    count = 1 if way.endswith("alone") else 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **KEPT}
    command = [sys.executable, __file__, "--worker", way, case, str(steps)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(port)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(count)
    ]
    found = []
    for process in started:
        out, err = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(f"{way}, {case}: {err[-2000:]}")
        found += json.loads(out.strip().splitlines()[-1])
    return found


def main():
    """Take turns, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        way, case, steps, rank, port = options.worker
        return worker(way, case, int(steps), int(rank), int(port))
    seconds = {case: {way: [] for way in WAYS} for case in CASES}
    for number in range(options.rounds):
        for case in CASES:
            for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                seconds[case][way] += run(way, case, options.steps)
                print(f"round {number + 1}, {case}, {way}: {statistics.median(seconds[case][way]) * 1e3:.1f} ms")
    medians = {case: {way: statistics.median(times) for way, times in ways.items()} for case, ways in seconds.items()}
    result = {"batch": BATCH, "machine": f"{platform.machine()}, {os.cpu_count()} cores", "median_seconds": medians}
    result["efficiency"] = {
        case: {way: ways[f"{way.split()[0]} pair"] / seconds for way, seconds in ways.items() if way in TWO}
        for case, ways in medians.items()
    }
    (HERE / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["efficiency"], indent=1))
    return None


if __name__ == "__main__":
    main()
