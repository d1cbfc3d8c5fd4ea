"""Station: the right-hand side with noise in its diffusion limit: a stochastic equation from one field."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..brownian import Grid, Still
from ..states import as_float
from ..types import Hook, State, Tensor, Time
from .base import Term
from .noisy import Source, evaluated_by
from .perturbed import depth_of, is_layered
from .stochastic import Slope, Stochastic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Diffused"]


class Diffused(Stochastic):
    """The Itô equation that noise on a field tends to: its drift and its diffusion from one evaluation of the field.

    Args:
        term: `Layered` or `ODETerm`, or one of these with noise.
        source: where the noise comes from, a `NoiseRegularizer`.
    """

    inner: Term

    def __init__(self, term: Term, source: Source) -> None:
        super().__init__(source.kind, "ito", source.brownian)
        self.source, self.inner = source, evaluated_by(term, source)
        self.continuous, self.layered = term.continuous, is_layered(term)
        self.grid: tuple[float, ...] = ()
        self.depth, self.share, self.calm = 1.0, 1.0, False

    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at `t`, `y`."""
        f, g = self.source.moments(cast(Tensor, self.inner.vf(t, y)), cast(Tensor, y), self.depth)
        return Slope(f, g if self.share == 1.0 else cast(Tensor, g) * self.share)

    def drift(self, t: Time, y: State) -> State:
        """The drift alone."""
        return self.vf(t, y).f

    def diffusion(self, t: Time, y: State) -> State:
        """The diffusion alone; it costs the same evaluation."""
        return self.vf(t, y).g

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The equation with its Brownian motion drawn for one solve; in evaluation nothing moves."""
        times, modules = tuple(sorted(grid.times)), {"inner": self.inner.drawn(y0, grid, area)}
        if not (self.training or self.source.at_test):
            return self._replace(_modules=modules, path=Still(self.noise_like(y0)), grid=times, calm=True, share=0.0)
        return super().drawn(y0, grid, area)._replace(_modules=modules, grid=times)

    def over(self, t0: Time, t1: Time) -> Self:
        """The equation over the step: its layer, how deep it is, and how large its noise."""
        share = 0.0 if self.calm else _share(self.source, t0, t1)
        depth = depth_of(self.layered, self.grid, t0, t1)
        return self._replace(_modules={"inner": self.inner.over(t0, t1)}, depth=depth, share=share)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """Those of the term."""
        return self.inner.jumps(low, high)

    def rows(self, index: Tensor) -> Self:
        """The term and the path of the samples `index` alone."""
        return self._replace(_modules={"inner": self.inner.rows(index)}, path=self._path_of(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the term."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same equation with `hook` around the field."""
        return self._replace(_modules={"inner": self.inner.wrap(hook)})


def _share(source: Source, t0: Time, t1: Time) -> float:
    """What the diffusion is multiplied by: that of a stochastic limit is as it is, that of an ordinary one vanishes."""
    return 1.0 if source.scaling == "sde" else abs(as_float(t1) - as_float(t0)) ** 0.5
