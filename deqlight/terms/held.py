"""Station: the right-hand side with noise of a size that is known before the solve, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..brownian import Brownian
from ..types import Hook, State, Tensor, Time
from .base import Term
from .stochastic import Slope, Stochastic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Held"]


class Held(Stochastic):
    """dy = f(t, y) dt + g dW, where g is a number for each sample, the same at all times. Additive noise.

    Such as g(y₀), the diffusion of SDE-Net, which is evaluated once, before the solve; only f counts as an evaluation.

    Args:
        term: f: an ordinary term, on states of one tensor.
        size: g, `(batch, 1, …)`, which broadcasts against the state `(batch, *state)`; a gradient goes through it.
        brownian: how Brownian motion is drawn: one for each number of the state.
    """

    inner: Term

    def __init__(self, term: Term, size: Tensor, brownian: Brownian) -> None:
        super().__init__("additive", "ito", brownian)
        self.inner, self.size = term, size
        self.continuous = term.continuous

    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at `t`, `y`."""
        return Slope(self.inner.vf(t, y), self.diffusion(t, y))

    def drift(self, t: Time, y: State) -> State:
        """The drift alone, shaped as `y`."""
        value: State = self.inner.vf(t, y)
        return value

    def diffusion(self, t: Time, y: State) -> State:
        """The diffusion alone, shaped as `y`."""
        state = cast(Tensor, y)
        return self.size.to(state.dtype).expand_as(state)

    def over(self, t0: Time, t1: Time) -> Self:
        """The term over the step."""
        return self._with(self.inner.over(t0, t1))

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """Those of the drift."""
        return self.inner.jumps(low, high)

    def rows(self, index: Tensor) -> Self:
        """The drift, the size and the path of the samples `index` alone."""
        return self._with(self.inner.rows(index))._replace(size=self.size[index], path=self._path_of(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the drift, and the size."""
        return (*self.inner.tensors(t0, t1), self.size)

    def wrap(self, hook: Hook) -> Self:
        """The same equation with `hook` around the drift's fields."""
        return self._with(self.inner.wrap(hook))

    def _with(self, inner: Term) -> Self:
        return self if inner is self.inner else self._replace(_modules={"inner": inner})
