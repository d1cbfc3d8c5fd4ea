"""Station: the right-hand side, a field that knows something of each sample: its class, say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import nn

from ..types import Tensor

__all__ = ["Conditional", "rows_of"]

Field = TypeVar("Field", bound=Callable[..., Any])


class Conditional(nn.Module, ABC):
    """A field `(t, y) -> dy/dt` that holds something of each sample, in the order of the batch.

    Where samples have clocks of their own, those that are done leave the field's calls; `rows` makes the field of the
    others. `ODETerm`, `Denoising` and `ReverseSDE` ask for it.
    """

    @abstractmethod
    def rows(self, index: Tensor) -> Conditional:
        """The field of the samples `index` alone, with the same weights."""


def rows_of(field: Field, index: Tensor) -> Field:
    """The field of the samples `index`; itself, where it knows nothing of single samples."""
    return cast(Field, field.rows(index)) if isinstance(field, Conditional) else field
