"""Station: the right-hand side. A term is a vector field times a control."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..brownian import Grid
from ..types import VF, Control, FieldFn, Hook, State, Tensor, Time, Weight

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Hooked", "Term", "innermost", "name_of", "nested"]


class Named(ABCMeta):
    """Notes the names of a term's attributes once it is made: compilers before torch 2.13 cannot read them off it."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        """A new term."""
        term = super().__call__(*args, **options)
        term.__dict__["_names"] = tuple(term.__dict__)
        return term


class Term(nn.Module, metaclass=Named):
    """A vector field and what multiplies it over a step: the increment of a step is `prod(vf(t, y), control(t0, t1))`.

    A solver sees terms alone, never fields; that is why one solver serves ordinary equations, layered networks and
    partitioned systems. `continuous` says whether the field goes on smoothly over the end of a step: where it does not
    (another layer begins), a solver must not carry an evaluation from one step into the next as if it were the same.
    """

    continuous: bool = True
    hook: Hook | None = None
    _names: tuple[str, ...] = ()

    @abstractmethod
    def vf(self, t: Time, y: State) -> VF:
        """The vector field at time `t` and state `y` `(batch, *state)`; for an ODE shaped as `y`."""

    def slope_at(self, t: Time, y: State) -> State:
        """How fast the state moves at time `t` and state `y`, noise apart, shaped as `y`: what a first step is by."""
        value: State = self.vf(t, y)
        return value

    @abstractmethod
    def control(self, t0: Time, t1: Time) -> Control:
        """What multiplies the field over the step from `t0` to `t1`; for an ODE `t1 - t0`. Pure."""

    @abstractmethod
    def prod(self, vf: VF, control: Control) -> State:
        """The increment that a field value gives over a step, shaped as the state."""

    @abstractmethod
    def advance(self, y0: State, weights: Sequence[Weight], vfs: Sequence[VF], control: Control) -> State:
        """`y0 + Σ weight · prod(vf, control)`, in as few passes over memory as the term knows."""

    def slopes(self, first: VF, count: int, control: Control) -> list[VF]:
        """A list for the `count` slopes of a step, the first in it; `advance` may know a faster way to sum its own."""
        return [first]

    def increment(self, weights: Sequence[Weight], vfs: Sequence[VF], control: Control) -> State:
        """`Σ weight · prod(vf, control)`: an error estimate has this form."""
        return self.advance(self.prod(vfs[0], _scaled(control, weights[0])), weights[1:], vfs[1:], control)

    def drawn(self, y0: State, grid: Grid, area: int) -> Term:
        """The term for one solve from `y0`, with whatever is drawn once per solve: a Brownian path, masks.

        `area` says what the solver needs to know of the path, see `brownian.Brownian`.
        """
        return self

    def private(self) -> Term:
        """The term for a solve whose memory, between two steps, nobody but the solver holds: it may be written over."""
        return self

    def over(self, t0: Time, t1: Time) -> Term:
        """The term with whatever is constant during the step from `t0` to `t1` chosen: a layer, a mask. Pure."""
        return self

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The times between `low` and `high` where the field jumps, so that measured steps end there."""
        return ()

    def rows(self, index: Tensor) -> Term:
        """The term for the samples `index` alone; a term that holds per-sample data must define it."""
        return self

    @abstractmethod
    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The parameters, and other declared tensors, that the field uses between `t0` and `t1`."""

    @abstractmethod
    def wrap(self, hook: Hook) -> Term:
        """The same term with `hook` around every call of its fields; the seam of counting, checking and replay."""

    def _replace(self, **attributes: Any) -> Self:
        """A view of this term that shares its parameters and differs in some attributes (cheap: no registration)."""
        view = object.__new__(type(self))
        if not torch.compiler.is_compiling():
            view.__dict__.update(self.__dict__, **attributes)  # to set it would go through Module's own rules
            return view
        names = (*self._names, *(name for name in attributes if name not in self._names))
        for name in names:
            view.__dict__[name] = attributes[name] if name in attributes else self.__dict__[name]
        view.__dict__["_names"] = names
        return view


class Hooked:
    """A field inside a hook, which is a field again; equal where both are the same."""

    __slots__ = ("field", "hook")

    def __init__(self, hook: Hook, field: FieldFn) -> None:
        self.hook, self.field = hook, field

    def __call__(self, t: Time, y: State) -> State:
        """What the hook makes of the field's value."""
        return self.hook(self.field, t, y)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hooked) and self.hook is other.hook and self.field == other.field

    def __hash__(self) -> int:
        return hash(getattr(self, "field", None))  # compilers before torch 2.13 ask one that has none yet

    @property
    def __name__(self) -> str:
        return name_of(self.field)


def nested(outer: Hook, inner: Hook | None) -> Hook:
    """Both hooks in one: the outer one sees the inner one as its field."""
    if inner is None:
        return outer
    return lambda field, t, y: outer(Hooked(inner, field), t, y)


def innermost(field: FieldFn) -> FieldFn:
    """The field itself, without the hooks around it."""
    while isinstance(field, Hooked):
        field = field.field
    return field


def name_of(field: FieldFn) -> str:
    """What an error calls the field: the name of a function, the class of anything else."""
    return getattr(field, "__name__", type(field).__name__)


def _scaled(control: Control, weight: Weight) -> Control:
    return control * weight
