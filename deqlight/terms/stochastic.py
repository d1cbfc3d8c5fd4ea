"""Station: the right-hand side of a stochastic differential equation, dy = f(t, y) dt + g(t, y) dW."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from ..brownian import Brownian, Grid, Path
from ..errors import InputError, check_word
from ..states import axpy, each, leaves, like
from ..types import Calculus, Noise, State, Tensor, Time, Weight
from .base import Term

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NOISES", "Drive", "Slope", "Stochastic"]


class Slope(NamedTuple):
    """The value of a stochastic field."""

    f: State
    """The drift, shaped as the state."""
    g: State
    """The diffusion: shaped as the state, or `(batch, *state, channels)`."""


class Drive(NamedTuple):
    """What multiplies the field over a step: the control (dt, dW)."""

    dt: Time
    """The step t₁ − t₀: a float, or `(batch, 1, …)`."""
    w: State
    """The increment of Brownian motion: shaped as the state, `(batch, 1, …)` for scalar noise, `(batch, channels)`."""
    u: State | None = None
    """Its space-time integral, for solvers that ask for it (`info.area`)."""
    a: Tensor | None = None
    """Its Lévy area `(batch, channels, channels)`, for solvers that ask for it."""


class Stochastic(Term):
    """What all stochastic terms share, whatever their fields: the control is `(dt, dW)`.

    Any solver that advances by `prod(vf, control)` integrates one: Euler's method is Euler and Maruyama's.

    Args:
        noise: how the diffusion acts: `additive` (g does not depend on y), `diagonal` (each number of the state has
            Brownian motion of its own, and its g depends on no other), `scalar` (one Brownian motion moves all of a
            sample), `general`.
        calculus: in which sense g dW is meant, `ito` or `stratonovich`; for additive noise both are one.
        brownian: how Brownian motion is drawn in each solve.
        channels: how many Brownian motions a sample has, where g is a matrix `(batch, *state, channels)`; None where
            g is shaped as the state.

    Raises:
        InputError: for other words, and for channels that do not go with the noise.
    """

    path: Path | None = None

    def __init__(self, noise: Noise, calculus: Calculus, brownian: Brownian, channels: int | None = None) -> None:
        super().__init__()
        _check(type(self).__name__, noise, calculus, brownian, channels)
        self.noise, self.calculus, self.brownian, self.channels = noise, calculus, brownian, channels

    @abstractmethod
    def vf(self, t: Time, y: State) -> Slope:
        """Drift and diffusion at `t`, `y`."""

    @abstractmethod
    def drift(self, t: Time, y: State) -> State:
        """The drift f alone, shaped as `y`."""

    @abstractmethod
    def diffusion(self, t: Time, y: State) -> State:
        """The diffusion g alone."""

    def slope_at(self, t: Time, y: State) -> State:
        """The drift."""
        return self.drift(t, y)

    def control(self, t0: Time, t1: Time) -> Drive:
        """`(t1 - t0, W(t1) - W(t0))`, with what else the solver asked for.

        Raises:
            InputError: before a path is drawn; `solve` does that.
        """
        if self.path is None:
            raise InputError(
                f"{type(self).__name__} has no Brownian path yet; call term.drawn(y0, grid), as solve does"
            )
        return Drive(t1 - t0, *self.path.increment(t0, t1))

    def noise_prod(self, g: State, w: State) -> State:
        """The diffusion times an increment of the noise, shaped as the state."""
        if self.channels is None:
            return each(torch.mul, g, w)
        matrix, vector = leaves(g)[0], leaves(w)[0]
        rows = matrix.reshape(len(matrix), matrix.shape[1:-1].numel(), matrix.shape[-1])  # (batch, state, channels)
        return torch.bmm(rows, vector[..., None]).reshape(matrix.shape[:-1])

    def prod(self, vf: Slope, control: Drive) -> State:
        """The increment `f dt + g dW`, shaped as the state."""
        return each(lambda f, gw: f * like(control.dt, f) + gw, vf.f, self.noise_prod(vf.g, control.w))

    def advance(self, y0: State, weights: Sequence[Weight], vfs: Sequence[Slope], control: Drive) -> State:
        """`y0 + Σ weight · (f dt + g dW)`."""
        y, dt, w = y0, control.dt, control.w
        for weight, (f, g) in zip(weights, vfs, strict=True):
            plain = isinstance(weight, float)
            if plain and weight == 0.0:
                continue
            y = axpy(weight * dt, f, y)
            if plain and self.channels is None:
                y = _moved(y, g, w, cast(float, weight))
            else:
                y = axpy(weight, self.noise_prod(g, w), y)
        return y

    def increment(self, weights: Sequence[Weight], vfs: Sequence[Slope], control: Drive) -> State:
        """`Σ weight · (f dt + g dW)`."""
        zero = each(torch.zeros_like, vfs[0].f)
        return self.advance(zero, weights, vfs, control)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """The same term with its Brownian motion drawn for a solve; itself if it has been."""
        if self.path is not None:
            return self
        return self._replace(path=self.brownian.draw(self.noise_like(y0), grid, area))

    def _path_of(self, index: Tensor) -> Path | None:
        """The path of the samples `index` alone, if one is drawn."""
        return None if self.path is None else self.path.rows(index)

    def noise_like(self, y0: State) -> State:
        """A state of the shapes of the noise, for a state of the shapes of `y0`."""
        if self.noise == "scalar":
            return each(lambda leaf: leaf.new_empty(leaf.shape[0], *[1] * (leaf.dim() - 1)), leaves(y0)[0])
        return y0 if self.channels is None else leaves(y0)[0].new_empty(len(leaves(y0)[0]), self.channels)


def _moved(y: State, g: State, w: State, weight: float) -> State:
    """`y + weight g w`, number by number, in one pass over memory."""
    if isinstance(y, Tensor):  # the usual case, at the least cost
        return torch.addcmul(y, cast(Tensor, g), cast(Tensor, w), value=weight)
    return each(lambda a, b, c: torch.addcmul(a, b, c, value=weight), y, g, w)


def _check(name: str, noise: Noise, calculus: Calculus, brownian: Brownian, channels: int | None) -> None:
    for what, got, known in (("noise", noise, NOISES), ("calculus", calculus, CALCULI)):
        check_word(name, what, got, known)
    if not isinstance(brownian, Brownian):
        raise InputError(f"{name} got brownian={brownian!r}; it needs Increments(…) or Interval(…)")
    matrix = channels is not None
    if (noise == "general" and not matrix) or (noise in ("diagonal", "scalar") and matrix):
        raise InputError(
            f"{name} got {noise} noise with channels={channels}; general noise needs channels, the number of Brownian "
            "motions of a sample; diagonal and scalar noise have none, their diffusion is shaped as the state"
        )
    if matrix and cast(int, channels) < 1:
        raise InputError(f"{name} got channels={channels}; at least one Brownian motion is needed")


NOISES: tuple[Noise, ...] = ("additive", "diagonal", "scalar", "general")
CALCULI: tuple[Calculus, ...] = ("ito", "stratonovich")
