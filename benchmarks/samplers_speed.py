"""What a sampler costs besides its network: a network that costs nothing, a state `[64, 3, 32, 32]`, one thread."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from samplers_peers import LINEAR, diffusers

from deqlight import SaveAt, solve
from deqlight.schedules import VP
from deqlight.solvers import (
    DDIM,
    DEIS,
    PNDM,
    AngularPC,
    DenoisingSolver,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMSolver2,
    DPMSolver3,
    EDMHeun,
    UniPC,
)
from deqlight.terms import Denoising
from deqlight.testing.timing import interleaved

STEPS, ROUNDS = 50, 15
YARDSTICK = "diffusers 2M"

OURS: list[DenoisingSolver] = [
    DDIM(),
    DPMSolver2(),
    DPMSolver3(),
    DPMpp2S(),
    EDMHeun(),
    DPMpp2M(),
    DPMpp3M(),
    DEIS(2),
    DEIS(3),
    DEIS(4),
    PNDM(),
    UniPC(1),
    UniPC(2),
    UniPC(3),
    AngularPC(2),
    AngularPC(3),
    AngularPC(4),
]


def speed() -> dict[str, Any]:
    """Microseconds of an evaluation, the network's not counted, and as a share of the yardstick's."""
    rng = torch.Generator().manual_seed(0)
    noise, start = (torch.randn(64, 3, 32, 32, generator=rng) for _ in range(2))
    peers = {
        "diffusers DDIM": ("DDIMScheduler", {"clip_sample": False}),
        YARDSTICK: ("DPMSolverMultistepScheduler", {"solver_order": 2}),
        "diffusers 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
        "diffusers DEIS 3": ("DEISMultistepScheduler", {"solver_order": 3}),
        "diffusers UniPC 2": ("UniPCMultistepScheduler", {"solver_order": 2}),
        "diffusers UniPC 3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    }
    runs: dict[str, Callable[[], object]] = {}
    for name, (kind, options) in peers.items():
        runs[name] = _theirs(getattr(diffusers(), kind)(**LINEAR, **options), noise, start)
    calls = dict.fromkeys(runs, STEPS)
    for solver in OURS:
        runs[repr(solver)] = _ours(solver, noise, start)
        calls[repr(solver)] = solver.info.nfe_start + (solver.info.nfe_step or 1) * STEPS
    times = interleaved(runs, ROUNDS, warm_up=2)
    found: dict[str, Any] = {}
    for name, own in times.items():
        ratio = statistics.median(
            a / calls[name] / (b / calls[YARDSTICK]) for a, b in zip(own, times[YARDSTICK], strict=True)
        )
        found[name] = {"us": round(1e6 * statistics.median(own) / calls[name], 1), "of 2M": round(ratio, 3)}
    return found


def _ours(solver: DenoisingSolver, noise: torch.Tensor, start: torch.Tensor) -> Callable[[], object]:
    schedule = VP()
    term, rhos, last = Denoising(lambda rho, y: noise, schedule), solver.grid.times(schedule, STEPS), SaveAt(final=True)

    @torch.no_grad()
    def run() -> object:
        return solve(term, start, rhos, solver=solver, saveat=last)

    return run


def _theirs(scheduler: Any, noise: torch.Tensor, start: torch.Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> object:
        scheduler.set_timesteps(STEPS)
        x = start
        for t in scheduler.timesteps:
            x = scheduler.step(noise, t, x).prev_sample
        return x

    return run
