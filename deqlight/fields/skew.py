"""Station: the vector field in two halves that share their weights: networks whose halves turn about each other."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..types import Tensor, Time

__all__ = ["Skew"]


class Skew(nn.Module):
    """Two fields with one convolution K: dq/dt = scale · tanh(Kᵀ p + a), dp/dt = −scale · tanh(K q + b).

    For small states the pair turns, as a skew-symmetric matrix has it, and neither grows nor fades. A `CoupledStage` of
    these by `SymplecticEuler` is the Verlet network of Haber & Ruthotto, whose p is known half a step later.

    Args:
        channels: channels of q, and of p.
        scale: the step length of the network, a factor of both fields.

    Reference: Haber & Ruthotto, Stable Architectures for Deep Neural Networks, Inverse Problems 2018 (arXiv
    1705.03341), eq. Verlet.
    """

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="tanh")
        self.velocity, self.force = _Half(self.weight, scale, back=True), _Half(self.weight, -scale, back=False)


class _Half(nn.Module):
    """scale · tanh(K y + b), or of Kᵀ."""

    def __init__(self, weight: nn.Parameter, scale: float, back: bool) -> None:
        super().__init__()
        self.weight, self.bias = weight, nn.Parameter(torch.zeros(weight.shape[0]))
        self.scale, self.back = scale, back

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """The field at `y` `(batch, channels, height, width)`, shaped as `y`."""
        turn = F.conv_transpose2d if self.back else F.conv2d
        return self.scale * torch.tanh(turn(y, self.weight, self.bias, padding=1))
