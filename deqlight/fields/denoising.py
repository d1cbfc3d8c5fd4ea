"""Station: the vector field on vectors, as large as a density in the plane needs: noise, data or velocity."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..states import leaves
from ..types import Tensor, Time
from .condition import Condition
from .embedding import Features, SinusoidalFeatures
from .zeroed import zeroed

__all__ = ["DenoisingMLP"]


class DenoisingMLP(nn.Module):
    """The network of diffusion models on vectors: residual layers, each moved by the noise label, and by the class.

    `field(t, y)` estimates noise, data or velocity, whatever it is trained for, where `t` is the label of the noise;
    `field(t, y, labels)` is told the classes. Before training the result is exactly 0. A layer is
    u + A SiLU(B n(u)), where n is LayerNorm followed by scale and shift. Classes are as in `UNet`. Not to be confused
    with `MLP`, which takes time as one more number of its input.

    Args:
        channels: channels of the vectors.
        hidden: channels of the features, an even number.
        depth: number of residual layers.
        classes: how many classes; None has none.
        label_drop: the probability that training hides the class of a sample.
        features: makes the features of noise labels: `SinusoidalFeatures`, for labels in [0, 1] unless told otherwise,
            or `FourierFeatures`.

    Raises:
        InputError: for sizes that make no sense; from `forward`, for classes that there are not.
        ShapeError: from `forward`, for a state that is not a tensor `(batch, channels)`, and labels that do not fit it.

    Reference: Ho, Jain & Abbeel, NeurIPS 2020 (arXiv 2006.11239); Ho & Salimans 2022 (arXiv 2207.12598).
    """

    def __init__(
        self,
        channels: int,
        hidden: int = 128,
        depth: int = 3,
        classes: int | None = None,
        label_drop: float = 0.0,
        features: Features = SinusoidalFeatures,
    ) -> None:
        super().__init__()
        if min(channels, depth) < 1 or hidden < 4 or hidden % 2:
            raise InputError(
                f"DenoisingMLP got channels={channels}, hidden={hidden}, depth={depth}; it needs at least one "
                "channel and one layer, and an even width, at least 4"
            )
        self.channels = channels
        self.condition = Condition(hidden, hidden, classes, label_drop, features)
        self.entry, self.exit = nn.Linear(channels, hidden), zeroed(nn.Linear(hidden, channels))
        self.layers = nn.ModuleList(ResidualVector(hidden) for _ in range(depth))

    def forward(self, t: Time, y: Tensor, labels: Tensor | None = None) -> Tensor:
        """The estimate, shaped as `y` `(batch, channels)`, in its dtype.

        Args:
            t: noise labels, a number or a tensor `(batch,)` or `(batch, 1)`.
            y: noisy vectors.
            labels: classes `(batch,)`, whole numbers, negative for no class; None tells none of them.
        """
        parts = leaves(y)
        if len(parts) != 1 or y.shape[1:] != (self.channels,):
            shapes = [tuple(part.shape) for part in parts]
            raise ShapeError(f"DenoisingMLP got a state of shapes {shapes}; it needs vectors, (batch, {self.channels})")
        condition = self.condition(t, y.shape[0], labels)
        found = self.entry(y)
        for layer in self.layers:
            found = layer(found, condition)
        # no norm here: far out the noise is as large as what is seen, and a norm would hide how large that is
        return self.exit(F.silu(found)).to(y.dtype)  # type: ignore[no-any-return]  # a module's call is untyped


class ResidualVector(nn.Module):
    """u + f(u): norm, moved by the condition, a linear layer, SiLU, a linear layer, which starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.modulation = nn.LayerNorm(channels), nn.Linear(channels, 2 * channels)
        self.first, self.last = nn.Linear(channels, channels), zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`(batch, channels)` of features and the condition, `(batch or 1, channels)`."""
        scale, shift = self.modulation(condition).chunk(2, 1)
        return x + self.last(F.silu(self.first(self.norm(x) * (1.0 + scale) + shift)))  # type: ignore[no-any-return]
