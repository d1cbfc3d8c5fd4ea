"""Station: the right-hand side of a stochastic equation, said in the other calculus."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..brownian import Grid
from ..errors import InputError
from ..states import axpy, leaves
from ..types import Hook, State, Tensor, Time
from .derivative import along
from .stochastic import Slope, Stochastic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Converted"]


class Converted(Stochastic):
    """The same stochastic equation in the other calculus: Itô's drift is Stratonovich's plus ½ Σ_j ∂g_j g_j.

    Has the same solutions as the term it is made of, and goes with the solvers of the other calculus. The correction
    is computed from the evaluation of g, by two backward passes through it for each Brownian motion.

    Args:
        term: the equation.

    Raises:
        InputError: for a term that is not stochastic.

    Reference: Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, §4.9.
    """

    inner: Stochastic

    def __init__(self, term: Stochastic) -> None:
        if not isinstance(term, Stochastic):
            raise InputError(f"Converted got {term!r}; it needs a stochastic term, such as SDETerm(…)")
        other = "ito" if term.calculus == "stratonovich" else "stratonovich"
        super().__init__(term.noise, other, term.brownian, term.channels)  # type: ignore[arg-type]  # one of two words
        self.inner, self.continuous = term, term.continuous

    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at `t`, `y`."""
        if self.noise == "additive":
            return self.inner.vf(t, y)
        sign = 1.0 if self.calculus == "ito" else -1.0
        g, rates = along(lambda z: self.inner.diffusion(t, z), y, self._columns)
        f = self.inner.drift(t, y)
        for j, rate in enumerate(rates):
            f = axpy(0.5 * sign, rate if self.channels is None else cast(Tensor, rate)[..., j], f)
        return Slope(f, g)

    def drift(self, t: Time, y: State) -> State:
        """The drift alone; it needs the diffusion as well."""
        return self.vf(t, y).f

    def diffusion(self, t: Time, y: State) -> State:
        """The diffusion alone."""
        return self.inner.diffusion(t, y)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The same of the term for one solve."""
        return self._with(self.inner.drawn(y0, grid, area))

    def over(self, t0: Time, t1: Time) -> Self:
        """The same of the term over a step."""
        return self._with(cast(Stochastic, self.inner.over(t0, t1)))

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """Those of the term."""
        return self.inner.jumps(low, high)

    def rows(self, index: Tensor) -> Self:
        """The same of the term for the samples `index` alone."""
        return self._with(cast(Stochastic, self.inner.rows(index)))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the term."""
        return self.inner.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same of the term with `hook` around its fields."""
        return self._with(cast(Stochastic, self.inner.wrap(hook)))

    def _columns(self, g: State) -> list[State]:
        """The directions that the columns of g are differentiated along: themselves."""
        return [g] if self.channels is None else list(leaves(g)[0].unbind(-1))

    def _with(self, inner: Stochastic) -> Self:
        if inner is self.inner:
            return self
        return self._replace(_modules={"inner": inner}, path=inner.path)
