"""Station: the right-hand side, a part of it: a field whose values are matrices, as general noise needs."""

from __future__ import annotations

from torch import nn

from ..errors import InputError
from ..states import leaves
from ..types import FieldFn, State, Tensor, Time

__all__ = ["Matrix"]


class Matrix(nn.Module):
    """A field whose values have one axis more than the state: `(batch, *state, channels)`.

    Args:
        field: `(t, y) -> g`.
        channels: the length of that axis.
    """

    def __init__(self, field: FieldFn | nn.Module, channels: int) -> None:
        super().__init__()
        if not callable(field):
            raise InputError(f"SDETerm got the diffusion {field!r}; it needs a field, callable as diffusion(t, y)")
        self.field, self.channels = field, channels

    def forward(self, t: Time, y: State) -> Tensor:
        """The field's value."""
        (value,) = leaves(self.field(t, y))
        return value
