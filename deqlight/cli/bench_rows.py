"""Station 1, the bench: what is measured of a network, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import lightning as L
import torch

from ..errors import CompileFailure, ConfigError
from ..solution import record
from ..testing.memory import Memory, gradients, measured_memory
from ..testing.timing import interleaved, median_ratio, stop_watch
from ..types import Tensor
from .bench_plan import Choice, Plan
from .faults import told_by_us

__all__ = ["BOTH", "FORWARD", "Refused", "Row", "counted", "flat_gradient", "prepared", "refusal", "timed", "weighed"]

FORWARD, BOTH = "forward", "both"


@dataclass(frozen=True)
class Refused:
    """A choice that cannot be run, and why."""

    choice: Choice
    reason: str


@dataclass
class Row:
    """A choice and all that is measured of it."""

    choice: Choice
    task: L.LightningModule
    step: Callable[[], Tensor]
    """A forward pass, to the loss."""
    inputs: tuple[Tensor, ...]
    """The parameters."""
    nfe: float
    """Evaluations of the forward pass, per sample, over all solves of the network."""
    nfe_backward: float
    accepted: float
    rejected: float
    memory: Memory | None
    """None for a compiled network, which cannot be seen into."""
    gradient: Tensor
    """With respect to all parameters, side by side."""
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each round, by pass."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Times that of the first row, by pass."""
    against_direct: float | None = None
    """The relative difference to the gradient through the steps of the same solver."""
    against_exact: float | None = None
    """The relative difference to the gradient of the exact solution."""


def counted(plan: Plan, choice: Choice, batch: Any) -> Row:
    """A row with all that one run tells."""
    task = plan.task(choice)
    step, inputs = prepared(plan, task, batch)
    with record() as solves:
        gradient = flat_gradient(step, inputs)
    nfe = _mean(stats.nfe for stats in solves)
    accepted, rejected = _mean(stats.accepted for stats in solves), _mean(stats.rejected for stats in solves)
    backward = float(sum(stats.nfe_backward for stats in solves))
    return Row(choice, task, step, inputs, nfe, backward, accepted, rejected, weighed(step, inputs), gradient)


def weighed(step: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Memory | None:
    """What both passes hold; None for a compiled network, which cannot be seen into."""
    try:
        return measured_memory(step, inputs)
    except CompileFailure:
        return None


def prepared(plan: Plan, task: L.LightningModule, batch: Any) -> tuple[Callable[[], Tensor], tuple[Tensor, ...]]:
    """A forward pass of a training step, which draws the same random numbers each time, and the parameters."""

    def step() -> Tensor:
        torch.manual_seed(plan.seed)
        result: Any = task.training_step(batch, 0)
        loss: Tensor = result if isinstance(result, Tensor) else result["loss"]
        return loss

    return step, tuple(p for p in task.parameters() if p.requires_grad)


def flat_gradient(step: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """The gradients of the loss, all side by side, zero where there is none, in float64."""
    found = gradients(step(), inputs)
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, inputs, strict=True)]
    return torch.cat([part.flatten().double() for part in parts])


def refusal(error: Exception) -> str:
    """Why a choice cannot be run; what is wrong with the request as a whole, or unforeseen, goes on."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    ours = told_by_us(error)
    if ours is None or isinstance(ours, ConfigError):
        raise error
    return str(ours)


def timed(rows: Sequence[Row], rounds: int, device: torch.device) -> None:
    """Fill in the seconds of both passes of all rows, measured in turn."""
    runs: dict[str, Callable[[], object]] = {}
    for number, row in enumerate(rows):
        runs[f"{FORWARD} {number}"] = partial(_forward, row)
        runs[f"{BOTH} {number}"] = partial(_both, row)
    times = interleaved(runs, rounds, clock=stop_watch(device))
    for number, row in enumerate(rows):
        for part in (FORWARD, BOTH):
            row.times[part] = times[f"{part} {number}"]
            row.ratios[part] = median_ratio(row.times[part], times[f"{part} 0"])


@torch.no_grad()
def _forward(row: Row) -> object:
    return row.step()


def _both(row: Row) -> object:
    return gradients(row.step(), row.inputs)


def _mean(counts: Iterable[Tensor]) -> float:
    """The mean over samples, summed over solves."""
    return float(sum(count.double().mean() for count in counts))
