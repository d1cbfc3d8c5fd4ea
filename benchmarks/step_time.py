"""What deqlight costs: a training step of a network against the same network written by hand, bare and in the Trainer.

First the bare networks: `DepthNet` beside a module with nothing of deqlight in it and the same weights, forward and
backward pass and a step of SGD, in turn. ResNet-20 and ResNet-32 on 32×32 images, which is what they are for, and on
batches of eight 8×8 images, where Python is much of the time. Then `Classify(DepthNet)` under the Trainer.

There batches of 64, with metrics, CSV and TensorBoard logging. After each step of the Trainer the hand-written loop
makes one of its own, so that both see the same machine at the same time. Networks: a ResNet-20 on 32×32 images; the
same in a bare Lightning module around the network by hand, which is what Lightning alone costs; and the neural ODE of
`neural_ode_digits`, on 8×8 images, with four steps of RK4 a stage, beside an RK4 written by hand.

One thread. A run's figure is the median of the ratios of process CPU time; runs differ by some per cent with where
their tensors lie, so there are several, each with fresh networks.

    python benchmarks/step_time.py [--steps 40] [--runs 7] [--bare]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning as L
import torch
from by_hand import copied, resnet
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from deqlight.controllers import Constant
from deqlight.data import Batch
from deqlight.fields import ConcatConv, GroupNorm2d
from deqlight.nets import ContinuousStage, ConvStem, DepthNet, PoolHead, Transition
from deqlight.solvers import RK4
from deqlight.tasks import Classify
from deqlight.testing.timing import interleaved, machine, median_ratio

BATCH, CLASSES, WARM_UP = 64, 10, 10
RK4_STEPS = 4


class RandomImages(Dataset[Batch]):
    """Random images `(channels, height, width)`, fetched a batch at a time."""

    def __init__(self, batches: int, shape: Sequence[int]) -> None:
        self.images, self.batches = torch.randn(BATCH, *shape), batches
        self.targets, self.ids = torch.randint(CLASSES, (BATCH,)), torch.arange(BATCH)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.images, self.targets, self.ids)


def neural_ode() -> DepthNet:
    """The network of `neural_ode_digits`, with equal steps."""
    field = partial(ConcatConv, norm=GroupNorm2d)
    stages = [ContinuousStage(field, 16), ContinuousStage(field, 32, entry=Transition(16, 32))]
    return DepthNet(ConvStem(1, 16), stages, PoolHead(32, CLASSES), solver=RK4(), controller=Constant(steps=RK4_STEPS))


def rk4(field: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The classical method from t = 0 to 1, written by hand."""
    h = 1.0 / RK4_STEPS
    for n in range(RK4_STEPS):
        t = n * h
        k1 = field(t, x)
        k2 = field(t + h / 2, x + h / 2 * k1)
        k3 = field(t + h / 2, x + h / 2 * k2)
        k4 = field(t + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


class ODEByHand(nn.Module):
    """The same neural ODE as anyone would write it; `integrate(field, x)` gives the state at t = 1."""

    def __init__(self, net: DepthNet, integrate: Callable[[nn.Module, torch.Tensor], torch.Tensor] = rk4) -> None:
        super().__init__()
        self.stem, self.head, self.integrate = net.stem, net.head, integrate
        self.entries = nn.ModuleList(stage.entry for stage in net.stages)
        self.fields = nn.ModuleList(stage.term.field for stage in net.stages)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for entry, field in zip(self.entries, self.fields, strict=True):
            x = self.integrate(field, entry(x))
        return self.head(x)


def loop_by_hand(loader: DataLoader[Batch], make: Callable[[], nn.Module]) -> Iterator[float]:
    """One training step at each `next`, with the loss that it had."""
    torch.manual_seed(0)
    net = make()
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
    """A network and a loss, logged: the least that Lightning can do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = F.cross_entropy(self.net(batch.inputs), batch.targets)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def classify(net: DepthNet) -> Classify:
    """What deqlight makes of it: a network of solves, and a task with metrics."""
    return Classify(net, CLASSES, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9))


@dataclass(frozen=True)
class Case:
    """A task for the Trainer, the network of the loop by hand, and the shape of the images."""

    task: Callable[[], L.LightningModule]
    by_hand: Callable[[], nn.Module]
    shape: tuple[int, ...]


IMAGES, DIGITS = (3, 32, 32), (1, 8, 8)
RESNET = Case(lambda: classify(resnet(20)), lambda: copied(resnet(20)), IMAGES)
BARE = Case(lambda: Bare(copied(resnet(20))), lambda: copied(resnet(20)), IMAGES)
NEURAL_ODE = Case(lambda: classify(neural_ode()), lambda: ODEByHand(neural_ode()), DIGITS)
CASES = {"Classify(DepthNet)": RESNET, "bare Lightning module": BARE, "Classify(neural ODE)": NEURAL_ODE}


@dataclass(frozen=True)
class Step:
    """A training step of a bare ResNet: its depth, the batch, the height and width of the images."""

    depth: int
    batch: int
    size: int

    def __str__(self) -> str:
        return f"ResNet-{self.depth}, batch {self.batch}, {self.size}×{self.size}"

    def times(self, steps: int) -> dict[str, list[float]]:
        """Seconds of each step of fresh networks of the same weights, in turn."""
        net = resnet(self.depth)
        images, targets = torch.randn(self.batch, 3, self.size, self.size), torch.randint(CLASSES, (self.batch,))
        nets = {"deqlight": net, "by hand": copied(net)}
        return interleaved({name: step_of(own, images, targets) for name, own in nets.items()}, steps, warm_up=3)


BARE_STEPS = [Step(depth, *shape) for depth in (20, 32) for shape in ((64, 32), (128, 32), (8, 8))]
SHORT = 10
"""How many times more steps of small batches are made."""


def step_of(net: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    """A step of SGD on one batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()

    return step


def bare(steps: int, runs: int) -> dict[str, object]:
    """Bare networks: the ratios of all runs."""
    found: dict[str, list[dict[str, list[float]]]] = {str(case): [] for case in BARE_STEPS}
    for _ in range(runs):
        for case in BARE_STEPS:
            found[str(case)].append(case.times(steps * (SHORT if case.size < IMAGES[-1] else 1)))
    rows: dict[str, object] = {}
    for name, done in found.items():
        ratios = sorted(round(median_ratio(times["deqlight"], times["by hand"]), 4) for times in done)
        middle = {who: round(1e3 * statistics.median(t for times in done for t in times[who]), 1) for who in done[0]}
        rows[name] = {
            "ratio, median of runs": statistics.median(ratios),
            "ratio, all runs": ratios,
            **{f"{who}, ms": t for who, t in middle.items()},
        }
    return {**rows, "steps": steps, "runs": runs, "machine": machine()}


def run(case: Case, steps: int) -> Interleaved:
    """Train a task under the Trainer and the network by hand, a step each in turn."""
    data = RandomImages(steps + WARM_UP, case.shape)
    by_hand = loop_by_hand(DataLoader(data, batch_size=None), case.by_hand)
    torch.manual_seed(0)
    task = case.task()
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


def trained(steps: int, runs: int) -> dict[str, object]:
    """What trains under the Trainer: all cases, in turn."""
    found: dict[str, list[Interleaved]] = {name: [] for name in CASES}
    for _ in range(runs):
        for name, case in CASES.items():
            found[name].append(run(case, steps))
    counts = {f"ResNet-{depth}": resnet(depth) for depth in (20, 32)} | {"neural ODE": neural_ode()}
    return {
        **{name: figures(done) for name, done in found.items()},
        "steps": steps,
        "runs": runs,
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in counts.items()},
        "machine": machine(),
    }


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--bare", action="store_true", help="the bare networks alone; the rest is kept as it is")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = Path(__file__).with_suffix(".json")
    rest = json.loads(results.read_text()) if given.bare else trained(given.steps, given.runs)
    found = rest | {"bare networks": bare(max(given.steps // 4, 1), given.runs)}
    text = json.dumps(found, indent=2, ensure_ascii=False)
    results.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
