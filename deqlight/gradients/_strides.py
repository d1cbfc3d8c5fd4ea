"""Station: the way back, its pace. It begins with steps as long as those that led there."""

from __future__ import annotations

import numpy as np

from ..controllers import AdaptiveSteps, Numbers
from ..integrate import Opening, Took, Watch
from ..times import Array
from ..types import Carry, State, Tensor

__all__ = ["Onward", "Strides"]


class Strides(Watch):
    """Remembers how long the last steps were; the longer of the last two, as the very last is cut short to land.

    Args:
        batch: number of samples.
        then: looks on as well.
    """

    def __init__(self, batch: int, then: Watch | None = None) -> None:
        self.then = then
        self._last, self._before = np.zeros(batch), np.zeros(batch)

    @property
    def lengths(self) -> Array:
        """Of each sample, `(batch,)`; 0 for those that took no step."""
        return np.maximum(self._last, self._before)

    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """Nothing to remember yet."""
        if self.then is not None:
            self.then.began(opening, y, carry)

    def moved(self, took: Took) -> None:
        """Remember the lengths of the rows that took the step."""
        length, move = np.abs(took.end - took.start), took.move
        rows = np.arange(len(length)) if move.rows is None else move.rows
        if move.accept is not None:
            rows, length = rows[move.accept], length[move.accept]
        self._before[rows], self._last[rows] = self._last[rows], length
        if self.then is not None:
            self.then.moved(took)


class Onward(AdaptiveSteps):
    """A controller that begins with given steps.

    Args:
        controller: all else is as it has it.
        lengths: of the first steps, `(clocks,)`; 0 for those that the controller chooses.
    """

    def __init__(self, controller: AdaptiveSteps, lengths: Array) -> None:
        self.controller, self.lengths = controller, lengths
        self.joint, self.rtol, self.atol = controller.joint, controller.rtol, controller.atol
        self.dtmin, self.dtmax, self.step_ts = controller.dtmin, controller.dtmax, controller.step_ts

    def __repr__(self) -> str:
        return repr(self.controller)

    def errors(self, error: State, y0: State, y1: State) -> Tensor:
        """The controller's."""
        return self.controller.errors(error, y0, y1)

    def first_steps(self, y0: State, f0: State, order: float, span: Array) -> Array:
        """As long as given, but no longer than the way; NaN where the field is not finite."""
        own = self.controller.first_steps(y0, f0, order, span)
        return np.where(np.isfinite(own) & (self.lengths > 0), np.minimum(self.lengths, span), own)

    def factors(self, error: Numbers, last: Numbers, before: Numbers, order: float) -> Numbers:
        """The controller's."""
        return self.controller.factors(error, last, before, order)
