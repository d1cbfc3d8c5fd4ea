"""Station: the right-hand side of generation with noise: a diffusion run backwards, whose time is the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ..brownian import Brownian, Grid, Increments
from ..errors import InputError
from ..schedules import Schedule
from ..states import each, like
from ..types import FieldFn, Hook, State, Tensor, Time
from .denoising import Denoising, Noised
from .stochastic import Slope, Stochastic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ReverseSDE"]


class ReverseSDE(Noised, Stochastic):
    """dy = (1 + η²) ε(ρ, y) dρ + η √(2ρ) dW, ρ falling: the reverse equation of y = x₀ + ρ ε, and its whole family.

    At each level the density is that of the probability flow, `Denoising`, which is η = 0; η = 1 is the reversal of the
    forward equation. Noise is additive, so that Itô's and Stratonovich's equations are one, and any solver of such
    equations samples; those made for it, such as `DDPM`, take the noise of a step as a standard normal number.

    Args:
        field: `(ρ, y) -> ε`, as of `Denoising`.
        schedule: whose α and time some methods ask for; None is α = 1, with log ρ as the time.
        eta: η, how much noise is drawn, and taken away again. Solvers made for this term have numbers of their own.
        brownian: how the noise is drawn.
        context: tensors besides the module's parameters that need a gradient through a custom gradient method.

    Raises:
        InputError: if `field` cannot be called, and for an η below 0.

    Reference: Song et al., arXiv 2011.13456, eq. 6, after Anderson 1982; the family: Karras et al., arXiv 2206.00364,
    eq. 6.
    """

    inner: Denoising

    def __init__(
        self,
        field: FieldFn | nn.Module,
        schedule: Schedule | None = None,
        eta: float = 1.0,
        brownian: Brownian = Increments(),  # noqa: B008  a frozen value
        context: Sequence[Tensor] = (),
    ) -> None:
        super().__init__("additive", "ito", brownian)
        if not 0.0 <= eta < math.inf:
            raise InputError(f"ReverseSDE got eta={eta}; it must be at least 0: 1 reverses the forward equation")
        self.inner, self.schedule, self.eta = Denoising(field, schedule, context), schedule, eta

    def eps(self, rho: Time, y: State) -> State:
        """The estimated noise in `y`."""
        return self.inner.vf(rho, y)

    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at ρ = `t`."""
        return Slope(self.drift(t, y), self.diffusion(t, y))

    def drift(self, t: Time, y: State) -> State:
        """(1 + η²) ε."""
        return each(lambda leaf: (1 + self.eta**2) * leaf, self.eps(t, y))

    def diffusion(self, t: Time, y: State) -> State:
        """η √(2ρ), which costs no evaluation."""
        if not isinstance(t, Tensor):
            return each(lambda leaf: torch.full_like(leaf, self.eta * math.sqrt(2 * t)), y)
        return each(lambda leaf: (cast(Tensor, like(t, leaf)) * 2).sqrt().mul(self.eta).expand_as(leaf), y)

    def normal(self, rho0: float, rho1: float) -> State:
        """The noise of a step between two levels, as standard normal numbers shaped as the state."""
        root = math.sqrt(abs(rho1 - rho0))
        return each(lambda leaf: leaf / root, self.control(rho0, rho1).w)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The same with its noise drawn for a solve, and with the levels of the solve."""
        return super().drawn(y0, grid, area).informed(grid)

    def rows(self, index: Tensor) -> Self:
        """The term and the path of the samples `index` alone."""
        return self._replace(_modules={"inner": self.inner.rows(index)}, path=self._path_of(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the field."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same with `hook` around the field."""
        return self._replace(_modules={"inner": self.inner.wrap(hook)})
