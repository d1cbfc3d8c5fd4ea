"""One method twice, in diffusers and here, on the very levels of noise that diffusers steps between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from samplers_peers import FINALS, Peer
from samplers_truth import NFES, Flows, geometric

from deqlight.schedules import DDPMTable
from deqlight.solvers import (
    DDIM,
    DEIS,
    PNDM,
    DenoisingSolver,
    DPMFast,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMSolver2,
    EDMHeun,
    UniPC,
)

Make = Callable[[int], DenoisingSolver]
"""A solver for a number of evaluations."""


def pairs() -> Iterator[tuple[str, Make, Peer]]:
    """What it is called, here, there."""
    zero = FINALS[0]
    least = FINALS[1]

    def peer(name: str, *options: dict[str, Any]) -> Peer:
        return Peer(name, tuple(item for part in options for item in part.items()))

    multi, single = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    plain = {"clip_sample": False}
    yield "DDIM", lambda n: DDIM(), peer("DDIMScheduler", plain, {"timestep_spacing": "trailing"})
    yield "DDIM, EDM Euler", lambda n: DDIM(), peer("EulerDiscreteScheduler", {"use_karras_sigmas": True}, zero)
    yield "EDM Heun", lambda n: EDMHeun(), peer("HeunDiscreteScheduler", {"use_karras_sigmas": True})
    older = {"algorithm_type": "dpmsolver", "lower_order_final": False}
    yield "DPM-Solver-2", lambda n: DPMSolver2(), peer(single, {"solver_order": 2}, older, least)
    fast = {"solver_order": 3, "algorithm_type": "dpmsolver", "lower_order_final": True}
    yield "DPM-Solver-3, fast", DPMFast, peer(single, fast, least)
    newer = {"solver_order": 2, "use_exponential_sigmas": True, "lower_order_final": True}  # its stage is in the middle
    yield "DPM-Solver++ 2S", lambda n: DPMpp2S(), peer(single, newer, zero)
    for final in (zero, least):
        end = "to 0" if final is zero else "to least noise"
        yield f"DPM-Solver++ 2M {end}", lambda n: DPMpp2M(), peer(multi, {"solver_order": 2}, final)
        yield f"DPM-Solver++ 3M {end}", lambda n: DPMpp3M(), peer(multi, {"solver_order": 3}, final)
        for order in (2, 3):
            for kind in ("bh1", "bh2"):
                options = {"solver_order": order, "solver_type": kind}
                made = UniPC(order, kind)
                yield (
                    f"UniPC-{order} {kind} {end}",
                    lambda n, s=made: s,
                    peer("UniPCMultistepScheduler", options, final),
                )
    for order in (2, 3):  # whose lower orders at the end are for less than 15 steps
        deis = partial(_deis, order)
        yield f"DEIS {order}, log ρ", deis, peer("DEISMultistepScheduler", {"solver_order": order})
    yield "PNDM", lambda n: PNDM(), peer("PNDMScheduler", {"timestep_spacing": "trailing"})


def _deis(order: int, nfe: int) -> DEIS:
    return DEIS(order, "lambda", lower_final=nfe < 15)


def levels(peer: Peer, scheduler: Any) -> list[float]:
    """ρ at the ends of the steps that a scheduler takes, where a step may be several evaluations."""
    end = peer.levels(scheduler)[1]
    if peer.name in ("DDIMScheduler", "PNDMScheduler"):
        labels = scheduler._timesteps[::-1] if peer.name == "PNDMScheduler" else scheduler.timesteps
        rhos = [((1 - a) / a) ** 0.5 for a in (float(scheduler.alphas_cumprod[int(t)]) for t in labels)]
        return [*rhos, end]
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    if peer.name == "DPMSolverSinglestepScheduler":
        return [sigma for sigma, order in zip(sigmas, scheduler.order_list, strict=False) if order == 1] + [end]
    return [a for a, b in pairwise([*sigmas, -1.0]) if a != b]


def compared(flows: Flows) -> dict[str, dict[str, Any]]:
    """For each pair and number of evaluations, both errors; None where either needs another number."""
    found: dict[str, dict[str, Any]] = {}
    for name, make, peer in pairs():
        rows = [_both(make, peer, nfe, flows) for nfe in NFES]
        found[name] = {"diffusers": str(peer), "nfe, deqlight, diffusers": rows}
    return found


def _both(make: Make, peer: Peer, nfe: int, flows: Flows) -> list[float | int] | None:
    nfe = nfe - 1 if nfe % 2 == 0 and "2S" in str(make(nfe)) else nfe  # whole steps, and one to 0
    ran = peer.run(nfe, flows)
    if ran is None:
        return None
    y, start, end, calls = ran
    scheduler = peer.made()
    scheduler.set_timesteps(peer.steps(nfe))
    solver = make(calls)
    rhos = levels(peer, scheduler)
    info = solver.info
    once = 1 if rhos[-1] == 0 and info.steps == 1 and info.nfe_step == 2 else 0
    own = calls if isinstance(solver, DPMFast) else info.nfe_start + (info.nfe_step or 1) * (len(rhos) - 1) - once
    if own != calls:
        return None
    ours = flows.solved(solver, rhos, schedule=DDPMTable())
    return [calls, geometric(flows.errors(ours, start, end)), geometric(flows.errors(y, start, end))]
