"""The fields: autonomous, so that every library evaluates the same thing, whatever it gives as the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deqlight.fields import GroupNorm2d, PreActivation


class VanDerPol(nn.Module):
    """Van der Pol's oscillator, a field that costs next to nothing: what is measured on it is the solver."""

    def __init__(self, mu: float = 1.0) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(mu, dtype=torch.float64))

    def forward(self, t: object, y: Tensor) -> Tensor:
        """`(batch, 2)`."""
        a, b = y.unbind(1)
        return torch.stack([b, self.mu * (1 - a * a) * b - a], 1)


class MLP(nn.Module):
    """Two layers with tanh, `dim` → `hidden` → `dim`; `gain` makes the field bend, so that it takes some steps."""

    def __init__(self, dim: int = 64, hidden: int = 256, gain: float = 3.0) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        with torch.no_grad():
            self.into.weight.mul_(gain)
            self.out.weight.mul_(gain)

    def forward(self, t: object, y: Tensor) -> Tensor:
        """`(batch, dim)`."""
        return self.out(torch.tanh(self.into(y)))


class Paced(nn.Module):
    """The same field at a speed of each sample's own, which is the last entry of its state and does not change."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: object, y: Tensor) -> Tensor:
        """`(batch, dim + 1)`."""
        speed = y[:, -1:]
        return torch.cat([self.field(t, y[:, :-1]) * speed, torch.zeros_like(speed)], 1)


class Flat(nn.Module):
    """A field of images behind a state `(batch, features)`, for a library that knows no other shape; views only."""

    def __init__(self, field: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.field, self.shape = field, shape

    def forward(self, t: object, y: Tensor) -> Tensor:
        """`(batch, features)`."""
        return self.field(t, y.view(-1, *self.shape)).flatten(1)


def conv(channels: int = 32, gain: float = 1.0) -> nn.Module:
    """Two 3×3 convolutions, each behind a normalisation of single samples and a ReLU."""
    field = PreActivation(channels, norm=GroupNorm2d)
    with torch.no_grad():
        for parameter in (field.conv1.weight, field.conv2.weight):
            parameter.mul_(gain)
    return field
