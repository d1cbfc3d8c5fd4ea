"""Station: the vector field. Convolutional fields `(t, y) -> dy/dt` on images `(batch, channels, height, width)`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Tensor, Time
from .norm import GroupNorm2d

__all__ = ["Antisymmetric", "Bottleneck", "ConcatConv", "PreActivation"]

Norm = Callable[[int], nn.Module]


class PreActivation(nn.Module):
    """The residual branch of a pre-activation ResNet: norm, ReLU, 3×3 convolution, twice. Does not depend on time.

    Args:
        channels: channels of the state and of the result.
        norm: makes a normalisation layer for a number of channels, such as `torch.nn.BatchNorm2d`.

    Reference: He, Zhang, Ren & Sun, Identity Mappings in Deep Residual Networks, ECCV 2016 (arXiv 1603.05027).
    """

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.conv1, self.conv2 = conv3x3(channels, channels), conv3x3(channels, channels)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at `y` `(batch, channels, height, width)`, shaped as `y`."""
        y = self.conv1(F.relu(self.norm1(y)))
        return self.conv2(F.relu(self.norm2(y)))  # type: ignore[no-any-return]  # a module's call is untyped


class Bottleneck(nn.Module):
    """The branch of a bottleneck ResNet: norm, ReLU and a convolution, 1×1 to fewer channels, 3×3 there, 1×1 back.

    With `groups` it is that of a ResNeXt: the 3×3 convolution works in groups of channels. Does not depend on time.

    Args:
        channels: channels of the state and of the result.
        norm: makes a normalisation layer for a number of channels.
        width: channels in the middle; None has a quarter of `channels`.
        groups: how many groups.

    Reference: He, Zhang, Ren & Sun, ECCV 2016 (arXiv 1603.05027); Xie, Girshick, Dollár, Tu & He, Aggregated Residual
    Transformations, CVPR 2017 (arXiv 1611.05431).
    """

    def __init__(self, channels: int, norm: Norm = nn.BatchNorm2d, width: int | None = None, groups: int = 1) -> None:
        super().__init__()
        width = channels // 4 if width is None else width
        self.norm = norm(channels)
        self.branch = nn.Sequential(*bottleneck(channels, channels, width, norm, 1, groups))

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at `y` `(batch, channels, height, width)`, shaped as `y`."""
        return self.branch(F.relu(self.norm(y)))  # type: ignore[no-any-return]  # a module's call is untyped


class Antisymmetric(nn.Module):
    """A field whose Jacobian has an imaginary spectrum up to `damping`: scale · tanh(K y − Kᵀ y − γ y + b).

    K is a 3×3 convolution and Kᵀ its exact adjoint, the transposed convolution with the same weight. Does not depend
    on time. The two-step midpoint rule (`Leapfrog`) is stable on it where `scale · ‖K − Kᵀ‖ < 1`.

    Args:
        channels: channels of the state and of the result.
        scale: the step length of the network, a factor of the field.
        damping: γ, which moves the spectrum to the left.

    Reference: Haber & Ruthotto 2017 (arXiv 1705.03341); Chang et al. 2018 (arXiv 1709.03698).
    """

    def __init__(self, channels: int, scale: float = 1.0, damping: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale, self.damping = scale, damping
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="tanh")

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at `y` `(batch, channels, height, width)`, shaped as `y`."""
        kernel = self.weight - self.weight.transpose(0, 1).flip(2, 3)  # the adjoint of a convolution is one as well
        drift = F.conv2d(y, kernel, self.bias, padding=1)
        return self.scale * torch.tanh(drift - self.damping * y if self.damping else drift)


class ConcatConv(nn.Module):
    """The field of a convolutional neural ODE: norm, ReLU, 3×3 convolution, twice, with time as one more channel.

    Args:
        channels: channels of the state and of the result.
        norm: makes a normalisation layer; one that does not mix samples, for a field is called many times a batch.

    Reference: Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018 (arXiv 1806.07366).
    """

    def __init__(self, channels: int, norm: Norm = GroupNorm2d) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.conv1, self.conv2 = conv3x3(channels + 1, channels), conv3x3(channels + 1, channels)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at time `t` and `y` `(batch, channels, height, width)`, shaped as `y`."""
        y = self.conv1(with_time(t, F.relu(self.norm1(y))))
        return self.conv2(with_time(t, F.relu(self.norm2(y))))  # type: ignore[no-any-return]  # a module's call is untyped


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, without bias, started as He et al. 2015 (arXiv 1502.01852)."""
    conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def bottleneck(
    in_channels: int, channels: int, width: int, norm: Norm, stride: int, groups: int
) -> tuple[nn.Module, ...]:
    """The layers of a bottleneck behind its first norm and ReLU.

    Raises:
        InputError: for a width that is not positive, or that cannot be divided into so many groups.
    """
    if width < 1 or groups < 1 or width % groups:
        raise InputError(f"a bottleneck got width={width} and groups={groups}; the groups must divide the width")
    middle = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
    first, last = nn.Conv2d(in_channels, width, 1, bias=False), nn.Conv2d(width, channels, 1, bias=False)
    for conv in (first, middle, last):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return first, norm(width), nn.ReLU(), middle, norm(width), nn.ReLU(), last


def with_time(t: Time, y: Tensor) -> Tensor:
    """`y` with the time as one more channel: `(batch, channels + 1, height, width)`."""
    shape = (y.shape[0], 1, *y.shape[2:])
    channel = t.to(y.dtype).expand(shape) if isinstance(t, Tensor) else y.new_full(shape, t)
    return torch.cat([y, channel], 1)
