"""Station 1, the command `sample`: what `AnalyticDPM` must know of a network, measured before it samples."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch

from ..brownian import Key, keyed
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
    x, classes, ids = (cast(Tensor, column) for column in generator.samples("train", MOST))
    levels = task.sampler.levels(task.sampler.schedule or task.denoiser.schedule)
    rhos = sorted(rho for rho in levels if rho > 0)  # from no noise no step begins
    sums = torch.zeros(len(rhos), dtype=torch.float64)
    for start in range(0, len(ids), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        powers = _power(generator, x[rows], classes[rows], ids[rows], rhos).powers
        sums += len(ids[rows]) * torch.tensor(powers, dtype=torch.float64)
    power = NoisePower(rhos, (sums / len(ids)).tolist())
    task.sampler = replace(task.sampler, solver=solver.measured(power))
    return len(ids)


def _power(generator: Generator, x: Tensor, classes: Tensor, ids: Tensor, rhos: list[float]) -> NoisePower:
    """Of some data."""
    task, device = generator.task, generator.device
    field = task.denoiser.eps if task.classes is None else Told(task.denoiser.eps, classes.to(device))
    with keyed(Key(generator.settings["seed"], ids=ids)):
        return noise_power(cast(FieldFn, field), task.normal(x.to(device)), rhos)
