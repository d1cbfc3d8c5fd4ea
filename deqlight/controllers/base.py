"""Station: the pace. A controller chooses the steps between the output times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ..times import Array
from ..types import State, Tensor, Time
from .numbers import Numbers

__all__ = ["AdaptiveSteps", "Array", "Controller", "FixedSteps"]


class Controller(ABC):  # noqa: B024  its two kinds have nothing in common but their place
    """Chooses the steps of a solve: a `FixedSteps` before it begins, an `AdaptiveSteps` as it goes."""


class FixedSteps(Controller):
    """A controller that knows every step beforehand."""

    @abstractmethod
    def grid(self, ts: Sequence[Time]) -> tuple[list[Time], list[int]]:
        """The times of all steps, and the places among them of the output times `ts`."""

    def check(self, span: float) -> None:
        """Raise `InputError` if the steps cannot be meant for a solve of this length."""


class AdaptiveSteps(Controller):
    """A controller that measures the error of each step, of all clocks at once."""

    joint: bool
    """Whether all samples share one clock; else each has its own."""
    rtol: float
    """Relative tolerance; iterative solvers stop by it as well."""
    atol: float | Tensor
    """Absolute tolerance; a tensor broadcasts against a sample of the state."""
    dtmin: float = 0.0
    """The shortest step that may be asked for; a step cut short to land on a time does not count."""
    dtmax: float | None = None
    """The longest step, if there is one."""
    step_ts: Sequence[float] = ()
    """Times that steps must end on, besides the output times."""

    def within(self, dtype: torch.dtype) -> AdaptiveSteps:
        """The controller with tolerances that numbers of `dtype` can resolve; itself, where they can."""
        return self

    @abstractmethod
    def errors(self, error: State, y0: State, y1: State) -> Tensor:
        """The size of the local error in units of the tolerance: at most 1 is accepted, NaN is failure.

        `(clocks,)` on the state's device, in its dtype; 0-d for one clock. Never differentiated.
        """

    @abstractmethod
    def first_steps(self, y0: State, f0: State, order: float, span: Array) -> Array:
        """The lengths of the first steps, `(clocks,)`, from the state and field at the start; `span` is the way to go.

        NaN where the field is not finite.
        """

    @abstractmethod
    def factors(self, error: Numbers, last: Numbers, before: Numbers, order: float) -> Numbers:
        """What to multiply the steps by, from this error and those of the two steps accepted before.

        Numbers of every kind: a float, a float64 array `(clocks,)`, or such a tensor; see `numbers.arithmetic`.
        """
