"""Station: the right-hand side of a stochastic differential equation, from a drift and a diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from ..brownian import Brownian, Increments
from ..types import Calculus, FieldFn, Hook, Noise, State, Tensor, Time
from .base import Term
from .matrix import Matrix
from .ode import ODETerm
from .stochastic import Slope, Stochastic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SDETerm"]


class SDETerm(Stochastic):
    """dy = drift(t, y) dt + diffusion(t, y) dW.

    An evaluation of the drift and one of the diffusion count as one field evaluation each.

    Args:
        drift: f: a term, such as `Layered`, or a field `(t, y) -> f`, shaped as `y`.
        diffusion: g: a term, or a field `(t, y) -> g`, shaped as `y` `(batch, *state)`; with `channels`,
            `(batch, *state, channels)`.
        noise: `additive`, `diagonal`, `scalar` or `general`; see `Stochastic`.
        calculus: `ito` or `stratonovich`; the solver must be for the same.
        brownian: how Brownian motion is drawn: `Increments()` on fixed grids, `Interval()` anywhere.
        channels: how many Brownian motions a sample has, where g is a matrix.

    Raises:
        InputError: for noise, calculus and channels that do not go together.

    >>> from deqlight import SDETerm, solve
    >>> from deqlight.brownian import Increments
    >>> from deqlight.solvers import Euler
    >>> import torch
    >>> walk = SDETerm(lambda t, y: -y, lambda t, y: 0.1 * torch.ones_like(y), noise="additive", calculus="ito",
    ...                brownian=Increments(seed=0))
    >>> solve(walk, torch.ones(2, 1), [0.0, 0.5, 1.0], solver=Euler()).ys.shape
    torch.Size([3, 2, 1])
    """

    f: Term
    g: Term

    def __init__(
        self,
        drift: Term | FieldFn | nn.Module,
        diffusion: Term | FieldFn | nn.Module,
        *,
        noise: Noise,
        calculus: Calculus,
        brownian: Brownian = Increments(),  # noqa: B008  a frozen value
        channels: int | None = None,
    ) -> None:
        super().__init__(noise, calculus, brownian, channels)
        if channels is not None and not isinstance(diffusion, Term):
            diffusion = Matrix(diffusion, channels)
        self.f, self.g = (part if isinstance(part, Term) else ODETerm(part) for part in (drift, diffusion))
        self.continuous = self.f.continuous and self.g.continuous

    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at `t`, `y`."""
        f, g = self._parts
        return Slope(f.vf(t, y), g.vf(t, y))

    def drift(self, t: Time, y: State) -> State:
        """The drift alone, shaped as `y`."""
        value: State = self.f.vf(t, y)
        return value

    def diffusion(self, t: Time, y: State) -> State:
        """The diffusion alone, shaped as `y` or `(batch, *state, channels)`."""
        value: State = self.g.vf(t, y)
        return value

    def over(self, t0: Time, t1: Time) -> Self:
        """Drift and diffusion over the step; layered ones choose their layer."""
        f, g = self._parts
        return self._with(f.over(t0, t1), g.over(t0, t1))

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The jumps of both."""
        return (*self.f.jumps(low, high), *self.g.jumps(low, high))

    def rows(self, index: Tensor) -> Self:
        """Both for the samples `index` alone, and their path."""
        return self._with(self.f.rows(index), self.g.rows(index))._replace(path=self._path_of(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The tensors of both."""
        return (*self.f.tensors(t0, t1), *self.g.tensors(t0, t1))

    def wrap(self, hook: Hook) -> Self:
        """The same term with `hook` around the fields of both."""
        return self._with(self.f.wrap(hook), self.g.wrap(hook))

    @property
    def _parts(self) -> tuple[Term, Term]:
        """Both, at less cost than two attributes of a module: each step asks several times."""
        parts = self._modules
        return cast(Term, parts["f"]), cast(Term, parts["g"])

    def _with(self, f: Term, g: Term) -> Self:
        before = self._parts
        return self if f is before[0] and g is before[1] else self._replace(_modules={"f": f, "g": g})
