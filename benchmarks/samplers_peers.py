"""The samplers of diffusers, as settings that can be run on a flow: schedulers, their options, their grids.

Not a dependency of deqlight: `pip install diffusers scipy`. The network is the exact one, asked at the very level of
noise that a scheduler computes with, not at the rounded label that it would tell a network, which favours it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from samplers_truth import Flows
from torch import Tensor

LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}
ENDS = {"sigma_min": 0.010000500037503, "sigma_max": 157.40753}
"""ρ at the ends of that schedule."""

SPACINGS = [{"timestep_spacing": name} for name in ("linspace", "leading", "trailing")]
SIGMAS = [{f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta")]
FLOW = [{"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "epsilon"} for shift in (1.0, 3.0)]
FINALS = [{"final_sigmas_type": name} for name in ("zero", "sigma_min")]
LOWER = [{"lower_order_final": value} for value in (True, False)]


def diffusers() -> Any:
    """The package.

    Raises:
        SystemExit: if it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise SystemExit(
            f"this compares with diffusers, which cannot be imported: {error}; pip install diffusers scipy"
        ) from error
    return diffusers


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers and its options."""

    name: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}({told})"

    def made(self) -> Any:
        """The scheduler."""
        options = dict(self.options)
        if self.name.startswith("EDM"):
            return getattr(diffusers(), self.name)(**ENDS, **options)
        if self.name == "SASolverScheduler":
            options["tau_func"] = lambda t: 0.0  # no noise
        return getattr(diffusers(), self.name)(**LINEAR, **options)

    def levels(self, scheduler: Any) -> tuple[float, float]:
        """ρ where it begins and where it ends, once its steps are set."""
        if hasattr(scheduler, "sigmas") and self.name not in PLAIN:
            ends = float(scheduler.sigmas[0]), float(scheduler.sigmas[-1])
            return (ends[0] / (1 - ends[0]), ends[1] / (1 - ends[1])) if self.flow else ends
        final = float(scheduler.final_alpha_cumprod)
        return _rho(float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])), _rho(final)

    @property
    def flow(self) -> bool:
        """Whether x is (1 − σ) x₀ + σ ε."""
        return bool(dict(self.options).get("use_flow_sigmas"))

    def run(self, nfe: int, flows: Flows) -> tuple[Tensor, float, float, int] | None:
        """Where it ends with so many evaluations at most, from what level, at what level it should; None for too few.

        Some settings end above the least noise of the schedule: what noise they leave is an error.
        """
        steps = self.steps(nfe)
        if not steps:
            return None
        scheduler = self.made()
        scheduler.set_timesteps(steps)
        start, end = self.levels(scheduler)
        y = self._walked(scheduler, flows, start)
        return y, start, ENDS["sigma_min"] if end > 0 else 0.0, len(scheduler.timesteps)

    def steps(self, nfe: int) -> int:
        """What to ask for, so that there are so many evaluations at most; 0 if that is too few."""
        for steps in range(nfe + 1, 0, -1):
            scheduler = self.made()
            try:
                scheduler.set_timesteps(steps)
            except (ValueError, IndexError, AssertionError):
                continue
            if len(scheduler.timesteps) <= nfe:
                return steps
        return 0

    @torch.no_grad()
    def _walked(self, scheduler: Any, flows: Flows, start: float) -> Tensor:
        scheduler.is_scale_input_called = True
        x, rho, alpha = flows.start(start), start, 1.0
        for n, t in enumerate(scheduler.timesteps):
            rho, alpha = self._level(scheduler, t)
            if n == 0:
                x = x * alpha
            y = x / alpha
            out = flows.eps(rho, y)
            if self.name.startswith("EDM"):
                data, variance = y - rho * out, rho**2 + 0.25
                out = (data - 0.25 / variance * y) / (rho * 0.5 / math.sqrt(variance))
            x = scheduler.step(out, t, x).prev_sample
        end = self.levels(scheduler)[1]
        if self.name in EXPLODING:
            return x
        return x * (1 + end) if self.flow else x * math.sqrt(1 + end * end)

    def _level(self, scheduler: Any, t: Tensor) -> tuple[float, float]:
        """ρ and α of the state that a scheduler asks the network about."""
        if self.name in PLAIN:
            rho = _rho(float(scheduler.alphas_cumprod[int(t)]))
            return rho, 1 / math.sqrt(1 + rho * rho)
        if scheduler.step_index is None:
            scheduler._init_step_index(t)
        sigmas = scheduler.sigmas
        if self.name == "KDPM2DiscreteScheduler" and not scheduler.state_in_first_order:
            sigmas = scheduler.sigmas_interpol
        sigma = float(sigmas[scheduler.step_index])
        if self.flow:
            return sigma / (1 - sigma), 1 - sigma
        return sigma, 1.0 if self.name in EXPLODING else 1 / math.sqrt(1 + sigma * sigma)


PLAIN = ("DDIMScheduler", "PNDMScheduler")
EXPLODING = (
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler",
)


def peers() -> Iterator[Peer]:
    """All schedulers without noise with all their grids and options."""
    lu = [{"use_lu_lambdas": True}]
    every = [*SPACINGS, *SIGMAS, *FLOW]
    types = [{"solver_type": kind} for kind in ("midpoint", "heun")]
    second, third = [{"solver_order": 2}], [{"solver_order": 3}]
    newer, older = [{"algorithm_type": "dpmsolver++"}], [{"algorithm_type": "dpmsolver"}]
    multi, single = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
    yield from _all(multi, second, newer, types, LOWER, [*every, *lu], FINALS)
    yield from _all(multi, third, newer, LOWER, [*every, *lu], FINALS)
    yield from _all(multi, third, newer, [{"euler_at_final": True}], [*every, *lu], FINALS)
    yield from _all(multi, [*second, *third], older, LOWER, [*every, *lu], FINALS[1:])
    yield from _all(single, [*second, *third], newer, types, LOWER, [{}, *SIGMAS, *FLOW], FINALS)
    yield from _all(single, [*second, *third], older, types, LOWER, [{}, *SIGMAS], FINALS[1:])
    bases, predicted = [{"solver_type": kind} for kind in ("bh1", "bh2")], [{"predict_x0": v} for v in (True, False)]
    yield from _all("UniPCMultistepScheduler", [*second, *third], bases, predicted, LOWER, every, FINALS)
    yield from _all("DEISMultistepScheduler", [*second, *third], LOWER, every)
    predictors = [{"predictor_order": p, "corrector_order": c} for p in (2, 3) for c in (2, 3, 4)]
    yield from _all("SASolverScheduler", predictors, LOWER, [*SPACINGS, *SIGMAS])
    yield from _all("EulerDiscreteScheduler", [*SPACINGS, *SIGMAS], FINALS)
    for name in ("HeunDiscreteScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler"):
        yield from _all(name, [*SPACINGS, *SIGMAS])
    yield from _all("DDIMScheduler", SPACINGS, [{"clip_sample": False, "set_alpha_to_one": v} for v in (True, False)])
    skips = [{"skip_prk_steps": v, "set_alpha_to_one": w} for v in (True, False) for w in (True, False)]
    yield from _all("PNDMScheduler", SPACINGS, skips)
    grids = [{"sigma_schedule": name} for name in ("karras", "exponential")]
    yield from _all("EDMEulerScheduler", grids, FINALS)
    yield from _all("EDMDPMSolverMultistepScheduler", [*second, *third], LOWER, grids, FINALS)


def _all(name: str, *choices: list[dict[str, Any]]) -> Iterator[Peer]:
    for chosen in itertools.product(*choices):
        yield Peer(name, tuple(item for part in chosen for item in part.items()))


def _rho(alpha_cumprod: float) -> float:
    return math.sqrt((1 - alpha_cumprod) / alpha_cumprod)
