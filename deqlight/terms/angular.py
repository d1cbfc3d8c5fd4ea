"""Station: the right-hand side of a diffusion's flow in the angle between data and noise, where it is smoothest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..states import each, like
from ..types import Hook, State, Tensor, Time
from .base import Term
from .ode import ODETerm, OrdinaryTerm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Angular"]


class Angular(OrdinaryTerm):
    """du/dθ = ε/cos θ − u tan θ, at y = c u/cos θ and ρ = c tan θ: the flow dy/dρ = ε where variances are kept.

    With data of standard deviation c, u = cos θ x₀/c + sin θ ε has variance 1 at every angle, and is x/c of a
    variance-preserving schedule; its slope is the v of Salimans and Ho. Neither the decades of ρ nor the growth of y
    are left in the equation.

    Args:
        flow: dy/dρ, an `ODETerm` such as `Denoising`.
        data_std: c; another than that of the data costs steps, and is as right.

    Reference: Salimans & Ho, Progressive Distillation for Fast Sampling of Diffusion Models, ICLR 2022 (arXiv
    2202.00512), appendix D.
    """

    inner: Term

    def __init__(self, flow: ODETerm, data_std: float) -> None:
        super().__init__()
        self.inner, self.data_std = flow, data_std

    def angle(self, rho: float) -> float:
        """θ at this level of noise."""
        return math.atan(rho / self.data_std)

    def size(self, rho: float) -> float:
        """What u is multiplied by to be y: √(c² + ρ²)."""
        return math.hypot(self.data_std, rho)

    def vf(self, t: Time, y: State) -> State:
        """The slope at the angle `t`. Tensors of angles are reckoned as they come, in float64, before they are cast."""
        tangent = t.tan() if isinstance(t, Tensor) else math.tan(t)
        secant = (tangent.square() + 1).sqrt() if isinstance(tangent, Tensor) else math.hypot(1.0, tangent)
        eps: State = self.inner.vf(self.data_std * tangent, each(lambda u: u * like(self.data_std * secant, u), y))
        return each(lambda e, u: e * like(secant, e) - u * like(tangent, u), eps, y)

    def rows(self, index: Tensor) -> Self:
        """The term of the samples `index` alone."""
        return self._replace(_modules={"inner": self.inner.rows(index)})

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the flow."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same with `hook` around the field, which sees ρ and y."""
        return self._replace(_modules={"inner": self.inner.wrap(hook)})
