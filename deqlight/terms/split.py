"""Station: the right-hand side as a sum: what is easy, and what is stiff; and stiff linear parts solved exactly."""

from __future__ import annotations

from typing import cast

from torch import nn

from ..errors import InputError
from ..states import each
from ..types import FieldFn, State, Time
from .base import Term
from .compound import Compound
from .flows import LinearFlow
from .layered import Layered
from .ode import ODETerm

__all__ = ["Semilinear", "Split"]


class Split(Compound):
    """dy/dt = explicit(t, y) + implicit(t, y): an IMEX method steps the one explicitly, the other implicitly.

    An evaluation of one part counts as one field evaluation.

    Args:
        explicit: the part that is not stiff: a term, or a field.
        implicit: the stiff part: a term, or a field.
    """

    explicit: Term
    implicit: Term

    def __init__(self, explicit: Term | FieldFn | nn.Module, implicit: Term | FieldFn | nn.Module) -> None:
        super().__init__(explicit=explicit, implicit=implicit)

    def vf(self, t: Time, y: State) -> State:
        """The sum of both parts."""
        return each(lambda a, b: a + b, self.explicit.vf(t, y), self.implicit.vf(t, y))


class Semilinear(Split):
    """dy/dt = L y + field(t, y), where the flow of L is known exactly: what exponential integrators solve.

    Args:
        linear: L, a `LinearFlow`, or a `Layered` stack of them.
        field: the rest: a term, or a field.

    Raises:
        InputError: if `linear` is something else.
    """

    def __init__(self, linear: LinearFlow | Layered, field: Term | FieldFn | nn.Module) -> None:
        flows = [layer.field for layer in _layers(linear)] if isinstance(linear, Layered) else [linear]
        if not all(isinstance(flow, LinearFlow) for flow in flows):
            raise InputError(
                f"Semilinear got {type(linear).__name__} as its linear part; it needs a LinearFlow, such as "
                "DiagonalFlow(rates) or MatrixFlow(matrix), or a Layered stack of those"
            )
        super().__init__(field, linear)

    @property
    def flow(self) -> LinearFlow:
        """L, on a term that is fixed over a step (`over`)."""
        return cast(LinearFlow, cast(ODETerm, self.implicit).field)


def _layers(stack: Layered) -> list[ODETerm]:
    return [cast(ODETerm, layer) for layer in stack.layers]
