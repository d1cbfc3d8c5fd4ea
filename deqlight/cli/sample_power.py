"""Station 1, the command `sample`: what `AnalyticDPM` must know of a network, measured before it samples."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch

from ..brownian import Key, keyed
from ..data import Batch
from ..nets import Told
from ..solvers import AnalyticDPM, NoisePower, noise_power
from ..types import FieldFn, Tensor
from .generator import Generator

__all__ = ["measure"]

MOST = 1000
"""So many samples of the training part are looked at, at most."""

AT_ONCE = 250
"""So many go through the network together, whatever the batch that is sampled: the numbers do not depend on it."""


def measure(generator: Generator) -> int:
    """Give the sampler the power of the network's noise, where it has none; on how many samples it was measured, or 0.

    It is that of the estimates at the sampler's levels, of data and their classes, without guidance, by which an
    estimate is one of the data no more.
    """
    task = generator.task
    solver = task.sampler.solver
    if not isinstance(solver, AnalyticDPM) or solver.power is not None:
        return 0
    data = generator.samples("train", MOST)
    levels = task.sampler.levels(task.sampler.schedule or task.denoiser.schedule)
    rhos = sorted(rho for rho in levels if rho > 0)  # from no noise no step begins
    sums = torch.zeros(len(rhos), dtype=torch.float64)
    for start in range(0, len(data.ids), AT_ONCE):
        part = Batch(*(column[start : start + AT_ONCE] for column in data))
        sums += len(part.ids) * torch.tensor(_power(generator, part, rhos).powers, dtype=torch.float64)
    power = NoisePower(rhos, (sums / len(data.ids)).tolist())
    task.sampler = replace(task.sampler, solver=solver.measured(power))
    return len(data.ids)


def _power(generator: Generator, data: Batch, rhos: list[float]) -> NoisePower:
    """Of some data."""
    task = generator.task
    x, classes = (cast(Tensor, column).to(generator.device) for column in data[:2])
    field = task.denoiser.eps if task.classes is None else Told(task.denoiser.eps, classes)
    with keyed(Key(generator.settings["seed"], ids=data.ids)):
        return noise_power(cast(FieldFn, field), task.normal(x), rhos)
