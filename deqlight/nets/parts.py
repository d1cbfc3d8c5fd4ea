"""Station: the ends of a network: what turns images into features, and features into scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..fields.conv import PreActivation, conv3x3
from ..fields.norm import GroupNorm2d
from ..fields.vector import Activation, perceptron
from ..types import Tensor

__all__ = ["ConvHead", "ConvStem", "NormHead", "Perceptron", "PoolHead"]

Norm = Callable[[int], nn.Module]


class ConvStem(nn.Module):
    """A 3×3 convolution from images to features.

    Images lie in [0, 1] wherever they are changed or attacked; what brings them to mean 0 is part of the network.

    Args:
        in_channels: channels of the images.
        channels: channels of the features.
        mean: of each channel of the images, which the stem subtracts; none for images as they are.
        std: standard deviation of each channel, by which it then divides.

    Raises:
        InputError: for means and deviations that are not one for each channel, and a deviation that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_channels: int, channels: int, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, channels)
        self.centred = bool(mean or std)
        if not self.centred:
            return
        if not (len(mean) == len(std) == in_channels and min(std) > 0):
            raise InputError(
                f"ConvStem got mean={list(mean)} and std={list(std)}; each needs {in_channels} numbers, one for each "
                "channel of the images, and std numbers above 0"
            )
        for name, values in (("mean", mean), ("std", std)):  # by the configuration, not by the checkpoint
            self.register_buffer(name, torch.tensor(list(values))[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height, width)` of images `(batch, in_channels, height, width)`."""
        if x.dim() != 4 or x.shape[1] != self.conv.in_channels:
            raise ShapeError(
                f"the stem got a batch of shape {tuple(x.shape)}; it needs (batch, {self.conv.in_channels}, height, "
                "width): set in_channels of the stem to the channels of the data"
            )
        if self.centred:
            x = (x - self.mean) / self.std
        return self.conv(x)  # type: ignore[no-any-return]  # a module's call is untyped


class PoolHead(nn.Module):
    """Norm, ReLU, the mean over all places, and a linear layer: the scores of the classes.

    Args:
        channels: channels of the features.
        classes: number of classes.
        norm: makes a normalisation layer for a number of channels.
    """

    def __init__(self, channels: int, classes: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(batch, classes)` of features `(batch, channels, height, width)`."""
        return self.linear(F.relu(self.norm(x)).mean((2, 3)))  # type: ignore[no-any-return]  # a module's call is untyped


class ConvHead(nn.Module):
    """Two 3×3 convolutions, each behind norm and ReLU, and a `PoolHead`: scores from features that need more than one.

    Args:
        channels: channels of the features.
        classes: number of scores; 1 for a logit.
        norm: makes a normalisation layer for a number of channels.
    """

    def __init__(self, channels: int, classes: int, norm: Norm = GroupNorm2d) -> None:
        super().__init__()
        self.convs, self.pool = PreActivation(channels, norm), PoolHead(channels, classes, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(batch, classes)` of features `(batch, channels, height, width)`."""
        return self.pool(self.convs(0.0, x))  # type: ignore[no-any-return]  # a module's call is untyped


class NormHead(nn.Module):
    """Layer norm, ReLU and a linear layer: the scores of vectors, whose length they do not depend on.

    Args:
        channels: length of the vectors.
        classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `(batch, classes)` of vectors `(batch, channels)`."""
        return self.linear(F.relu(self.norm(x)))  # type: ignore[no-any-return]  # a module's call is untyped


class Perceptron(nn.Module):
    """A multilayer perceptron between vectors of two lengths: a stem, or a head. As a field it is `MLP`.

    Args:
        in_channels: length of the input.
        channels: length of the output.
        hidden: width of the hidden layers.
        depth: number of hidden layers; 0 makes it linear.
        activation: makes the nonlinearity behind each of them.

    Raises:
        InputError: for a depth below 0, or layers without channels.
    """

    def __init__(
        self, in_channels: int, channels: int, hidden: int = 64, depth: int = 1, activation: Activation = nn.ReLU
    ) -> None:
        super().__init__()
        self.layers = perceptron(in_channels, channels, hidden, depth, activation)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels)` of `(batch, in_channels)`."""
        return self.layers(x)  # type: ignore[no-any-return]  # a module's call is untyped
