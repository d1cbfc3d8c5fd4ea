"""What the framework costs: a training step of `Classify(DepthNet)` under the Trainer against a loop written by hand.

The same ResNet-20 on 32×32 images, batch 64, one thread; the Trainer with metrics, CSV and TensorBoard logging. After
each step of the Trainer the hand-written loop makes one of its own, so that both see the same machine at the same
time; the figure is the median of the ratios of process CPU time.

    python benchmarks/step_time.py [--steps 150]
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


def measure(steps: int) -> dict[str, object]:
    """Train both, interleaved."""
    torch.set_num_threads(1)
    data = RandomImages(steps + WARM_UP)
    by_hand = loop_by_hand(DataLoader(data, batch_size=None))
    torch.manual_seed(0)
    task = Classify(resnet20(), CLASSES, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))
    pairs = Interleaved(lambda: next(by_hand))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=[CSVLogger(folder), TensorBoardLogger(folder)],
            callbacks=[pairs],
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(task, DataLoader(data, batch_size=None))
    kept = pairs.pairs[WARM_UP:]
    quarters = statistics.quantiles([a / b for a, b in kept], n=4)
    return {
        "ratio": round(quarters[1], 4),
        "ratio, quartiles": [round(quarters[0], 4), round(quarters[2], 4)],
        "trainer, ms": round(1e3 * statistics.median(a for a, _ in kept), 2),
        "by hand, ms": round(1e3 * statistics.median(b for _, b in kept), 2),
        "same losses": all(abs(a - b) < 1e-3 * abs(b) for a, b in pairs.losses[:5]),
        "steps": len(kept),
        "parameters": sum(p.numel() for p in task.parameters()),
        "machine": {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    found = measure(parser.parse_args().steps)
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=2, ensure_ascii=False))
