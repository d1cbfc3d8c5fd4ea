"""Station: the pace, where it is known. Steps that clocks take as they are told, each sample by its own list."""

from __future__ import annotations

import numpy as np
import torch

from ..controllers import AdaptiveSteps, Numbers
from ..states import finite_samples
from ..times import Array
from ..types import State, Tensor

__all__ = ["Given"]


class Given(AdaptiveSteps):
    """Takes every step from stop to stop and measures nothing but whether the state is finite."""

    joint = False
    rtol = atol = 0.0

    def errors(self, error: State, y0: State, y1: State) -> Tensor:
        """0 for a finite state, NaN for another."""
        return torch.where(finite_samples(y1), 0.0, torch.nan)

    def first_steps(self, y0: State, f0: State, order: float, span: Array) -> Array:
        """Unbounded: a step ends at the next stop."""
        return np.full(len(span), np.inf)

    def factors(self, error: Numbers, last: Numbers, before: Numbers, order: float) -> Numbers:
        """Nothing changes; a step that failed is not tried again."""
        return np.where(np.isnan(error), 0.0, 1.0)
