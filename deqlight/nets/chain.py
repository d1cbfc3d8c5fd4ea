"""Station: the network that is no equation: stem, blocks and head, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import InputError
from ..types import Tensor

__all__ = ["Chain"]


class Chain(nn.Module):
    """Blocks whose step is none of an equation, so that no integrator can be chosen: ResNet v1, DenseNet, FractalNet.

    What differs from `DepthNet` is what these networks are compared for; stem and head are the same.

    Args:
        stem: from the input to features `(batch, channels, …)`.
        blocks: from features to features, in order.
        head: from features to the output.

    Raises:
        InputError: without blocks.
    """

    def __init__(self, stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        if not blocks:
            raise InputError("Chain got no blocks; it needs at least one")
        self.stem, self.blocks, self.head = stem, nn.ModuleList(blocks), head

    def forward(self, x: Tensor) -> Tensor:
        """The output for a batch of inputs `(batch, …)`; for a classifier, scores `(batch, classes)`."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]  # a module's call is untyped
