"""Station: the right-hand side, put together from others. What all compound terms share."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from ..brownian import Grid
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import Term
from .ode import ODETerm, OrdinaryTerm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Compound"]


class Compound(OrdinaryTerm):
    """A term made of named terms; all that a term does besides `vf` is done to each part.

    Args:
        parts: terms, or fields that become an `ODETerm`; each is an attribute by its name.
    """

    def __init__(self, **parts: Term | FieldFn | nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, Term) else ODETerm(part))
        self.continuous = all(part.continuous for part in self.parts)

    @property
    def parts(self) -> tuple[Term, ...]:
        """The terms it is made of."""
        return tuple(cast(Term, part) for part in self._modules.values())

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """All parts for one solve."""
        return self._with([part.drawn(y0, grid, area) for part in self.parts])

    def over(self, t0: Time, t1: Time) -> Self:
        """All parts over the step; layered ones choose their layer."""
        return self._with([part.over(t0, t1) for part in self.parts])

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The jumps of all parts."""
        return tuple(t for part in self.parts for t in part.jumps(low, high))

    def rows(self, index: Tensor) -> Self:
        """All parts for the samples `index` alone."""
        return self._with([part.rows(index) for part in self.parts])

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The tensors of all parts."""
        return tuple(tensor for part in self.parts for tensor in part.tensors(t0, t1))

    def wrap(self, hook: Hook) -> Self:
        """The same compound with `hook` around the fields of all parts."""
        return self._with([part.wrap(hook) for part in self.parts])

    def _with(self, parts: list[Term]) -> Self:
        if all(new is old for new, old in zip(parts, self.parts, strict=True)):
            return self
        return self._replace(_modules=dict(zip(self._modules, parts, strict=True)))
