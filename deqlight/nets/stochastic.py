"""Station: a stretch of depth with noise: the stage of a neural SDE."""

from __future__ import annotations

from torch import nn

from ..brownian import Brownian, Increments
from ..terms import SDETerm
from ..types import Calculus, Noise
from .lift import Identity, Lift
from .stage import Block, Stage

__all__ = ["StochasticStage"]


class StochasticStage(Stage):
    """One drift and one diffusion for the whole stretch: du = f(t, u) dt + g(t, u) dW for t in [0, time].

    By `Euler` (Euler–Maruyama) or `Milstein` with Itô's calculus, by `Heun` or `Midpoint` with Stratonovich's: a neural
    SDE. The noise is part of the model and goes on in evaluation; `Draws` averages over it.

    Where the diffusion is made of the drift, as that of dropout, √(p/(1 − p)) f, or where the noise is to end with the
    training, take a `ContinuousStage` and the regulariser `Dropout` or `GaussianNoise` with `noise: gaussian`,
    `scaling: sde`: one evaluation gives both.

    Args:
        drift: makes f for a number of channels, such as `ConcatConv`.
        diffusion: makes g: `AdditiveDiffusion`, `MultiplicativeDiffusion`, `MatrixDiffusion`, or any field.
        channels: channels of the features.
        noise: how g acts: `additive`, `diagonal`, `scalar` or `general`.
        calculus: in which sense g dW is meant, `ito` or `stratonovich`; that of the solver.
        brownian: how Brownian motion is drawn: `Increments` on fixed grids, `Interval` anywhere.
        sources: how many Brownian motions a sample has, where g is a matrix `(batch, channels, …, sources)`.
        time: the end of the stretch.
        entry: a module before it, such as `Transition`.
        lift: between features and state; None takes the features as the state.

    Raises:
        InputError: for noise, calculus and sources that do not go together.

    Reference: Liu et al., Neural SDE: Stabilizing Neural ODE Networks with Stochastic Noise, 2019 (arXiv 1906.02355).
    """

    def __init__(
        self,
        drift: Block,
        diffusion: Block,
        channels: int,
        noise: Noise,
        calculus: Calculus,
        brownian: Brownian = Increments(),  # noqa: B008  a frozen value
        sources: int | None = None,
        time: float = 1.0,
        entry: nn.Module | None = None,
        lift: Lift | None = None,
    ) -> None:
        lift = lift or Identity()
        width = lift.width(channels)
        term = SDETerm(
            drift(width), diffusion(width), noise=noise, calculus=calculus, brownian=brownian, channels=sources
        )
        super().__init__(term, (0.0, time), channels, lift, entry)
