"""Station: the right-hand side of generation: the probability flow of a diffusion, whose time is the noise."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..brownian import Grid
from ..schedules import Schedule
from ..types import FieldFn, State, Tensor, Time
from .base import Term
from .ode import ODETerm
from .room import Room

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Denoising", "Noised"]

NEAR = 1e-9
"""By how much, relatively, a level of noise may miss one of the grid's and be meant for it."""


class Noised(Term):
    """What the two equations of generation share: a field that estimates noise, a schedule, and the levels ahead."""

    schedule: Schedule | None
    levels: tuple[float, ...] = ()
    """ρ at the ends of all steps, increasing; empty where the solve chooses its steps."""
    room: Room | None = None
    """Where a sampler may write what it remembers; None where somebody else looks at that."""

    def eps(self, rho: Time, y: State) -> State:
        """The estimated noise in `y` at the level `rho`, shaped as `y`: one evaluation of the field."""
        raise NotImplementedError

    def time(self, rho: float) -> float:
        """The schedule's time at this noise, or log ρ."""
        return math.log(rho) if self.schedule is None else self.schedule.time(rho)

    def level(self, time: float) -> float:
        """ρ at this time: the inverse of `time`."""
        return math.exp(time) if self.schedule is None else self.schedule.rho(time)

    def left(self, rho: float) -> int | None:
        """How many steps are left below this level; None where that is not known: the solve chooses its steps."""
        if torch.compiler.is_compiling():  # which knows no bisection
            return sum(level < rho * (1 - NEAR) for level in self.levels) if self.levels else None
        return bisect_left(self.levels, rho * (1 - NEAR)) if self.levels else None

    def private(self) -> Self:
        """The term with room for what a sampler remembers."""
        return self._replace(room=Room())

    def informed(self, grid: Grid) -> Self:
        """The term that knows the levels of a solve, where they are fixed."""
        return self._replace(levels=tuple(sorted(grid.times))) if grid.fixed else self


class Denoising(Noised, ODETerm):
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

    def eps(self, rho: Time, y: State) -> State:
        """The estimated noise, which is the slope."""
        return self.vf(rho, y)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The same with the levels of the solve."""
        return self.informed(grid)
