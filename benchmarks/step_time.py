"""What the framework costs: a training step of `Classify(DepthNet)` under the Trainer against a loop written by hand.

The same ResNet-20 on 32×32 images, batch 64, one thread; the Trainer with metrics, CSV and TensorBoard logging. After
each step of the Trainer the hand-written loop makes one of its own, so that both see the same machine at the same
time. A run's figure is the median of the ratios of process CPU time; runs differ by some per cent with where their
tensors lie, so there are several, each with fresh networks. The same is done with a bare Lightning module around the
network as anyone would write it, which is what Lightning alone costs.

    python benchmarks/step_time.py [--steps 40] [--runs 7]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from deqlight.data import Batch
from deqlight.fields import PreActivation
from deqlight.nets import ConvStem, DepthNet, LayeredStage, PoolHead, Transition
from deqlight.solvers import Euler
from deqlight.tasks import Classify

BATCH, CLASSES, WARM_UP = 64, 10, 10


class RandomImages(Dataset[Batch]):
    """Random images of CIFAR's size, fetched a batch at a time."""

    def __init__(self, batches: int) -> None:
        self.images, self.batches = torch.randn(BATCH, 3, 32, 32), batches
        self.targets, self.ids = torch.randint(CLASSES, (BATCH,)), torch.arange(BATCH)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.images, self.targets, self.ids)


def resnet20() -> DepthNet:
    """The 6n + 2 network with n = 3: 16, 32 and 64 channels."""
    stages = [
        LayeredStage(PreActivation, 16, 3),
        LayeredStage(PreActivation, 32, 2, Transition(16, 32)),
        LayeredStage(PreActivation, 64, 2, Transition(32, 64)),
    ]
    return DepthNet(ConvStem(3, 16), stages, PoolHead(64, CLASSES), solver=Euler())


class ByHand(nn.Module):
    """The same network as anyone would write it: no solver, no term, no time."""

    def __init__(self, net: DepthNet) -> None:
        super().__init__()
        self.stem, self.head = net.stem, net.head
        self.entries = nn.ModuleList(stage.entry for stage in net.stages)
        self.blocks = nn.ModuleList(nn.ModuleList(one.field for one in stage.term.layers) for stage in net.stages)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for entry, blocks in zip(self.entries, self.blocks, strict=True):
            x = entry(x)
            for f in blocks:
                x = x + f.conv2(F.relu(f.norm2(f.conv1(F.relu(f.norm1(x))))))
        return self.head(x)


def loop_by_hand(loader: DataLoader[Batch]) -> Iterator[float]:
    """One training step at each `next`, with the loss that it had."""
    torch.manual_seed(0)
    net = ByHand(resnet20())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    while True:
        for batch in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch.inputs), batch.targets)
            loss.backward()
            optimizer.step()
            yield float(loss.detach())


class Interleaved(L.Callback):
    """After each step of the Trainer, one step by hand; the time of both."""

    def __init__(self, by_hand: Callable[[], float]) -> None:
        self.by_hand = by_hand
        self.pairs: list[tuple[float, float]] = []
        self.losses: list[tuple[float, float]] = []
        self.resumed = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, outputs: dict, *_: object) -> None:
        ended = time.process_time()
        loss = self.by_hand()
        self.losses.append((float(outputs["loss"]), loss))
        again = time.process_time()
        self.pairs.append((ended - self.resumed, again - ended))
        self.resumed = time.process_time()


class Bare(L.LightningModule):
    """The network and a loss, logged: the least that Lightning can do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ByHand(resnet20())

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = F.cross_entropy(self.net(batch.inputs), batch.targets)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def classify() -> Classify:
    """What deqlight makes of it: a network of solves, and a task with metrics."""
    return Classify(resnet20(), CLASSES, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))


def run(make: Callable[[], L.LightningModule], steps: int) -> Interleaved:
    """Train a task under the Trainer and the network by hand, a step each in turn."""
    data = RandomImages(steps + WARM_UP)
    by_hand = loop_by_hand(DataLoader(data, batch_size=None))
    torch.manual_seed(0)
    task = make()
    pairs = Interleaved(lambda: next(by_hand))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=[CSVLogger(folder), TensorBoardLogger(folder)],
            callbacks=[pairs],
            log_every_n_steps=10,  # as `deqlight fit` has it
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(task, DataLoader(data, batch_size=None))
    return pairs


def figures(runs: list[Interleaved]) -> dict[str, object]:
    """The ratios of the runs, and the times of all steps."""
    kept = [run.pairs[WARM_UP:] for run in runs]
    ratios = sorted(round(statistics.median(a / b for a, b in pairs), 4) for pairs in kept)
    steps = [pair for pairs in kept for pair in pairs]
    return {
        "ratio, median of runs": statistics.median(ratios),
        "ratio, all runs": ratios,
        "trainer, ms": round(1e3 * statistics.median(a for a, _ in steps), 1),
        "by hand, ms": round(1e3 * statistics.median(b for _, b in steps), 1),
        "same losses": all(abs(a - b) < 1e-3 * abs(b) for run in runs for a, b in run.losses[:5]),
    }


def measure(steps: int, runs: int) -> dict[str, object]:
    """Both tasks, in turn."""
    torch.set_num_threads(1)
    both: tuple[list[Interleaved], list[Interleaved]] = ([], [])
    for _ in range(runs):
        for found, make in zip(both, (classify, Bare), strict=True):
            found.append(run(make, steps))
    return {
        "Classify(DepthNet)": figures(both[0]),
        "bare Lightning module": figures(both[1]),
        "steps": steps,
        "runs": runs,
        "parameters": sum(p.numel() for p in resnet20().parameters()),
        "machine": {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=7)
    found = measure(**vars(parser.parse_args()))
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=2, ensure_ascii=False))
