"""Station: the right-hand side of generation: the probability flow of a diffusion, whose time is the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ..schedules import Schedule
from ..types import FieldFn, Tensor
from .ode import ODETerm

__all__ = ["Denoising"]


class Denoising(ODETerm):
    """dy/dρ = ε(ρ, y): the probability flow of x = α (x₀ + ρ ε), with y = x/α and ρ = σ/α falling from noise to data.

    All schedules are one in these variables (α = 1), so that samplers know y, ρ and the log-SNR λ = −log ρ alone. The
    field estimates the noise in y; the data that it believes in are D = y − ρ ε. Any solver of ordinary equations
    integrates it (`Euler` is `DDIM`, `Heun` is `EDMHeun`) where ρ stays above 0; those that are made for it go down to
    0 itself, where the step is D.

    Args:
        field: `(ρ, y) -> ε`, an `nn.Module` or a function, shaped as y. ρ is a Python float where all samples share
            their steps, else `(batch, 1, …)`.
        schedule: whose time methods may interpolate in; None counts by log ρ.
        context: tensors besides the module's parameters that need a gradient through a custom gradient method.

    Raises:
        InputError: if `field` cannot be called.

    Reference: Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021 (arXiv 2011.13456), eq. 13; in ρ,
    Zhang & Chen, DEIS, ICLR 2023 (arXiv 2204.13902), proposition 3.
    """

    def __init__(
        self, field: FieldFn | nn.Module, schedule: Schedule | None = None, context: Sequence[Tensor] = ()
    ) -> None:
        super().__init__(field, context)
        self.schedule = schedule

    def time(self, rho: float) -> float:
        """The schedule's time at this noise, or log ρ."""
        return math.log(rho) if self.schedule is None else self.schedule.time(rho)

    def noise(self, time: float) -> float:
        """ρ at this time: the inverse of `time`."""
        return math.exp(time) if self.schedule is None else self.schedule.rho(time)
