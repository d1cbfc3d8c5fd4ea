"""Station: the vector field. Symmetric layers on images: parabolic, hyperbolic and Hamiltonian networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, check_word
from ..types import Tensor, Time
from .conv import Norm

__all__ = ["Activation", "Symmetric"]

Activation: TypeAlias = Literal["relu", "tanh", "softplus"]
"""A nonlinearity that does not decrease; `relu` has kinks, at which convergence in depth loses its order."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh, "softplus": F.softplus}


class Symmetric(nn.Module):
    """A field with a symmetric Jacobian that is nowhere positive: −scale · Kᵀ σ(N(K y) + b).

    K is a 3×3 convolution and Kᵀ its exact adjoint, the transposed convolution with the same weight. Does not depend on
    time. One field, three kinds of network (Ruthotto & Haber):

    - parabolic: du/dt is the field; `Euler` makes it a nonlinear heat flow, which is stable where
      `scale · ‖K‖² · max σ' ≤ 2`, and then makes no image larger;
    - second order, or hyperbolic: d²u/dt² is the field; `Stormer`, with `Reversible` gradients;
    - Hamiltonian: halves q, p with dq/dt = −field(p) and dp/dt = field(q), a negative `scale` for the first;
      `SymplecticEuler`, with `Reversible` gradients. H = 1ᵀ σ̂(K₁p + b₁) + 1ᵀ σ̂(K₂q + b₂) with σ̂' = σ.

    Args:
        channels: channels of the state and of the result.
        scale: the step length of the network, a factor of the field; negative for the other sign.
        activation: σ.
        norm: makes N for a number of channels; None has none. What normalises by the batch, or by the image, keeps
            neither the symmetry nor H; in evaluation BatchNorm keeps the symmetry if its weights are not negative.
        width: channels of K y; None has as many as `channels`.

    Raises:
        InputError: for another activation, and a scale of 0.

    Reference: Ruthotto & Haber, Deep Neural Networks Motivated by Partial Differential Equations, JMIV 2020 (arXiv
    1804.04272); Chang et al., AAAI 2018 (arXiv 1709.03698).
    """

    def __init__(
        self,
        channels: int,
        scale: float = 1.0,
        activation: Activation = "relu",
        norm: Norm | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__()
        check_word("Symmetric", "activation", activation, tuple(ACTIVATIONS))
        if scale == 0.0:
            raise InputError("Symmetric got scale=0; the field would be zero")
        width = channels if width is None else width
        self.weight, self.bias = nn.Parameter(torch.empty(width, channels, 3, 3)), nn.Parameter(torch.zeros(width))
        self.norm = nn.Identity() if norm is None else norm(width)
        self.scale, self.activation = scale, activation
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at `y` `(batch, channels, height, width)`, shaped as `y`."""
        inner = self.norm(self.there(y)) + self.bias[:, None, None]
        return -self.scale * self.back(ACTIVATIONS[self.activation](inner))

    def there(self, y: Tensor) -> Tensor:
        """K y."""
        return F.conv2d(y, self.weight, padding=1)

    def back(self, z: Tensor) -> Tensor:
        """Kᵀ z."""
        return F.conv_transpose2d(z, self.weight, padding=1)
