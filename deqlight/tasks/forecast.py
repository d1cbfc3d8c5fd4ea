"""Station: the task. From a start and a list of times to the course in between."""

from __future__ import annotations

from typing import NamedTuple, cast

from ..brownian import keyed
from ..data import Batch, Start
from ..errors import InputError
from ..types import Tensor
from .regress import Regression

__all__ = ["Course", "Forecast"]


class Course(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position of each sample in the data set, `(batch,)`."""
    ts: Tensor
    """The times, `(batch, time)`."""
    values: Tensor
    """The forecast at these, `(batch, time, *state)`."""


class Forecast(Regression):
    """Forecasts by any network that takes starts and times, `net(x, ts)`, and gives `(time, batch, *state)`.

    `Trajectory` is one. The inputs of a batch are a `Start`, the targets `(batch, time, *state)`. Logged as `Regress`
    does it: `loss`, `rmse` and `mae` are means over all times, and `nfe/forward`, `nfe/backward` what the solves cost.
    """

    def forward(self, inputs: Start) -> Tensor:
        """The forecast of each sample, `(batch, time, *state)`."""
        if not isinstance(inputs, Start):
            raise InputError("Forecast got inputs without times; it needs a Start: data such as Oscillator")
        course: Tensor = self.net(inputs.x, inputs.ts)  # (time, batch, *state)
        return course.transpose(0, 1)

    def predict_step(self, batch: Batch, batch_idx: int) -> Course:
        """The forecast of each sample at its times, with its id."""
        start = cast(Start, batch.inputs)
        times = start.ts.T if start.ts.dim() == 2 else start.ts.expand(len(batch.ids), -1)
        with keyed(self.key(batch)):
            return Course(batch.ids, times, self(start))
