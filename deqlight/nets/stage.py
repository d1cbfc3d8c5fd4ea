"""Station: a stretch of depth. A stage is a term, its depth grid, and the way into its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ..errors import InputError, ShapeError
from ..regularizers import Regularizer
from ..terms import Layered, ODETerm, Partitioned, Semilinear, Term
from ..types import State, Tensor
from .lift import Identity, Lift, Split

__all__ = ["ContinuousStage", "LayeredStage", "PartitionedStage", "SemilinearStage", "Stage", "regularize"]

Block = Callable[[int], nn.Module]
"""Makes a vector field for a number of channels."""


class Stage(nn.Module):
    """Features of one size and width, moved by one differential equation from `ts[0]` to `ts[-1]`.

    Args:
        term: the equation.
        ts: the depth grid.
        channels: channels of the features that enter the equation.
        lift: between features and state.
        entry: a module before the equation, where size or width changes; such a change is no step of an equation.
    """

    def __init__(
        self, term: Term, ts: Sequence[float], channels: int, lift: Lift | None = None, entry: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.entry = entry or nn.Identity()
        self.term, self.channels, self.lift = term, channels, lift or Identity()
        self.ts = tuple(float(t) for t in ts)

    def enter(self, x: Tensor) -> State:
        """The state at `ts[0]` for features `(batch, …)`; raises `ShapeError` for other channels than stated."""
        x = self.entry(x)
        if x.shape[1] != self.channels:
            raise ShapeError(
                f"a stage of {self.channels} channels got features of shape {tuple(x.shape)}; set its `channels`"
            )
        return self.lift.lift(x)

    def leave(self, y: State) -> Tensor:
        """The features `(batch, channels, …)` that a state stands for."""
        return self.lift.lower(y)


class LayeredStage(Stage):
    """`depth` layers with weights of their own: du/dt = f_n(u) on [n, n + 1]. With `Euler`, a stage of a ResNet.

    Args:
        block: makes the field of a layer for a number of channels, such as `PreActivation`.
        channels: channels of the features.
        depth: number of layers.
        entry: a module before the layers, such as `Transition`.
        lift: between features and state, such as `Augment`; None takes the features as the state.
    """

    def __init__(
        self, block: Block, channels: int, depth: int, entry: nn.Module | None = None, lift: Lift | None = None
    ) -> None:
        lift = lift or Identity()
        super().__init__(_layered(block, lift.width(channels), depth), range(depth + 1), channels, lift, entry)


class PartitionedStage(Stage):
    """`depth` layers in two halves: dq/dt = f_n(p), dp/dt = g_n(q). With `SymplecticEuler`, a stage of a RevNet.

    Args:
        velocity: makes f_n for half the channels.
        force: makes g_n for half the channels.
        channels: channels of the features, an even number.
        depth: number of layers.
        entry: a module before the layers, such as `Transition`.
    """

    def __init__(
        self, velocity: Block, force: Block, channels: int, depth: int, entry: nn.Module | None = None
    ) -> None:
        lift = Split()
        half = lift.width(channels)
        term = Partitioned(_layered(velocity, half, depth), _layered(force, half, depth))
        super().__init__(term, range(depth + 1), channels, lift, entry)


class SemilinearStage(Stage):
    """`depth` layers of a linear and a nonlinear part: du/dt = L_n u + f_n(u) on [n, n + 1].

    With `ETD1` a residual network whose linear part is solved exactly; with any method for split equations, an IMEX
    network. Plain methods take the sum of both parts.

    Args:
        linear: makes L_n for a number of channels, such as `ChannelDecay`: a `LinearFlow`.
        block: makes f_n for a number of channels, such as `PreActivation`.
        channels: channels of the features.
        depth: number of layers.
        entry: a module before the layers, such as `Transition`.
    """

    def __init__(self, linear: Block, block: Block, channels: int, depth: int, entry: nn.Module | None = None) -> None:
        term = Semilinear(_layered(linear, channels, depth), _layered(block, channels, depth))
        super().__init__(term, range(depth + 1), channels, Identity(), entry)


class ContinuousStage(Stage):
    """One field for the whole stretch: du/dt = f(t, u) for t in [0, time]. With any solver, a neural ODE.

    Args:
        field: makes the field for a number of channels, such as `ConcatConv`.
        channels: channels of the features.
        time: the end of the stretch.
        entry: a module before it, such as `Transition`.
        lift: between features and state: `Augment` makes an augmented neural ODE, `WithVelocity` with the field
            `SecondOrder` a second-order one; None takes the features as the state.
    """

    def __init__(
        self,
        field: Block,
        channels: int,
        time: float = 1.0,
        entry: nn.Module | None = None,
        lift: Lift | None = None,
    ) -> None:
        lift = lift or Identity()
        super().__init__(ODETerm(field(lift.width(channels))), (0.0, time), channels, lift, entry)


def regularize(stage: Stage, regularizers: Sequence[Regularizer]) -> None:
    """Change the stage's equation by each of the regularisers, in order."""
    for regularizer in regularizers:
        stage.term = regularizer.wrap(stage.term)


def _layered(block: Block, channels: int, depth: int) -> Layered:
    if depth < 1:
        raise InputError(f"a stage got depth={depth}; it needs at least one layer")
    return Layered(block(channels) for _ in range(depth))
