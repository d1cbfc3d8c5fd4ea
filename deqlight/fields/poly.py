"""Station: the vector field, made of two blocks: the modules of PolyNet that have weights of their own for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import nn

from ..errors import check_word
from ..types import Tensor, Time

__all__ = ["Poly", "Polynomial"]

Block = Callable[[int], nn.Module]

Polynomial: TypeAlias = Literal["mpoly-2", "2-way"]
"""How two blocks F and G make a field: F + G F, or F + G."""


class Poly(nn.Module):
    """Two blocks of one kind as one field, F(u) + G(F(u)) or F(u) + G(u). By `Euler`, mpoly-2 and 2-way of PolyNet.

    For poly-2, F(u) + F(F(u)) with one block, the integrator does it: `Neumann`. Not to be confused with `Branches`,
    the mean of two blocks.

    Args:
        channels: channels of the state and of the result.
        block: makes a block for a number of channels, such as `PreActivation`.
        kind: `mpoly-2` or `2-way`.

    Raises:
        InputError: for another kind.

    Reference: Zhang, Li, Loy & Lin, PolyNet, CVPR 2017 (arXiv 1611.05725), §3.
    """

    def __init__(self, channels: int, block: Block, kind: Polynomial = "mpoly-2") -> None:
        super().__init__()
        check_word("Poly", "kind", kind, ("mpoly-2", "2-way"))
        self.first, self.second, self.kind = block(channels), block(channels), kind

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """dy/dt at time `t` and `y` `(batch, channels, …)`, shaped as `y`."""
        first = self.first(t, y)
        return first + self.second(t, first if self.kind == "mpoly-2" else y)  # type: ignore[no-any-return]
