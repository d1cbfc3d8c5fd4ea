"""Station: the vector field. Fields `(t, y) -> dy/dt` on vectors `(batch, channels)`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from ..errors import InputError, ShapeError
from ..states import leaves
from ..types import Tensor, Time
from .conv import with_time

__all__ = ["MLP"]

Activation = Callable[[], nn.Module]


class MLP(nn.Module):
    """A multilayer perceptron, with time as one more channel of its input.

    Args:
        channels: channels of the state and of the result.
        hidden: width of the hidden layers.
        depth: number of hidden layers; 0 makes a linear field, with a constant part.
        activation: makes the nonlinearity behind each of them; a smooth one, for solvers of high order live on that.
        time: whether the field depends on time.

    Raises:
        InputError: for a depth below 0, or layers without channels.
        ShapeError: from `forward`, for a state that is not a tensor `(batch, channels)`.
    """

    def __init__(
        self, channels: int, hidden: int = 64, depth: int = 2, activation: Activation = nn.Tanh, time: bool = True
    ) -> None:
        super().__init__()
        self.channels, self.time = channels, time
        self.layers = perceptron(channels + time, channels, hidden, depth, activation)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at time `t` and `y` `(batch, channels)`, shaped as `y`."""
        parts = leaves(y)
        if len(parts) != 1 or y.shape[1:] != (self.channels,):
            shapes = [tuple(part.shape) for part in parts]
            raise ShapeError(f"MLP got a state of shapes {shapes}; it needs vectors, (batch, {self.channels})")
        return self.layers(with_time(t, y) if self.time else y)  # type: ignore[no-any-return]  # a module's call is untyped


def perceptron(in_channels: int, channels: int, hidden: int, depth: int, activation: Activation) -> nn.Sequential:
    """Linear layers from `in_channels` to `channels`, with `depth` hidden ones of width `hidden` between them."""
    if depth < 0 or min(in_channels, channels, hidden) < 1:
        raise InputError(
            f"a perceptron got {in_channels} channels in, {channels} out, hidden={hidden}, depth={depth}; channels and "
            "width must be at least 1, the depth at least 0"
        )
    widths = [in_channels, *[hidden] * depth]
    inner = [nn.Sequential(nn.Linear(a, b), activation()) for a, b in pairwise(widths)]
    return nn.Sequential(*inner, nn.Linear(widths[-1], channels))
