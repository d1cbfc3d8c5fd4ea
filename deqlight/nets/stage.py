"""Station: a stretch of depth. A stage is a term, its depth grid, and the way into its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from ..errors import InputError, ShapeError
from ..regularizers import Regularizer
from ..terms import Layered, ODETerm, Partitioned, Semilinear, Term
from ..types import State, Tensor, Time
from .lift import Identity, Lift, Split

__all__ = [
    "ContinuousStage",
    "CoupledStage",
    "IMEXStage",
    "LayeredStage",
    "PartitionedStage",
    "SemilinearStage",
    "Stage",
    "regularize",
]

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


class CoupledStage(Stage):
    """A `PartitionedStage` whose halves share weights: `pair` makes both fields of a layer.

    Args:
        pair: makes a module with the fields `velocity`, f_n, and `force`, g_n, for half the channels, such as `Skew`.
        channels: channels of the features, an even number.
        depth: number of layers.
        entry: a module before the layers, such as `Transition`.
    """

    def __init__(self, pair: Block, channels: int, depth: int, entry: nn.Module | None = None) -> None:
        lift = Split()
        pairs = _stack(pair, lift.width(channels), depth)
        if not all(hasattr(made, half) for made in pairs for half in ("velocity", "force")):
            raise InputError(
                f"CoupledStage got pair={type(pairs[0]).__name__}, which has no velocity and force; use Skew, or a "
                "PartitionedStage, which takes both"
            )
        halves = ([cast(nn.Module, getattr(made, half)) for made in pairs] for half in ("velocity", "force"))
        term = Partitioned(*map(Layered, halves))
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


class IMEXStage(Stage):
    """`depth` layers du/dt = f_n(u), held stable by a linear L_n that is added and taken off: L_n u + (f_n(u) − L_n u).

    With `IMEXEuler`, u₊ = (I − hL)⁻¹ (u − hLu + hf(u)): an IMEXnet, stable for stiff f and with the equilibria of f, in
    which a layer reaches as far as (I − hL)⁻¹ does. Plain methods see f alone: with `Euler` it is a residual network.

    Args:
        linear: makes L_n for a number of channels, such as `PeriodicDiffusion`: a `LinearFlow`.
        block: makes f_n for a number of channels, such as `PreActivation`.
        channels: channels of the features.
        depth: number of layers.
        entry: a module before the layers, such as `Transition`.

    Reference: Haber, Lensink, Treister & Ruthotto, IMEXnet, AAAI 2019 (arXiv 1903.02639).
    """

    def __init__(self, linear: Block, block: Block, channels: int, depth: int, entry: nn.Module | None = None) -> None:
        flows = _stack(linear, channels, depth)
        rest = Layered(_Less(block(channels), flow) for flow in flows)
        super().__init__(Semilinear(Layered(flows), rest), range(depth + 1), channels, Identity(), entry)


class _Less(nn.Module):
    """f(t, u) − L u."""

    def __init__(self, block: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.block, self.linear = block, linear

    def forward(self, t: Time, y: Tensor) -> Tensor:
        return self.block(t, y) - self.linear(t, y)  # type: ignore[no-any-return]  # a module's call is untyped


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
    return Layered(_stack(block, channels, depth))


def _stack(block: Block, channels: int, depth: int) -> list[nn.Module]:
    if depth < 1:
        raise InputError(f"a stage got depth={depth}; it needs at least one layer")
    return [block(channels) for _ in range(depth)]
