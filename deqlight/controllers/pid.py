"""Station: the pace. Steps chosen by the measured error, each sample by its own unless a joint norm is asked for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from ..errors import InputError
from ..types import State, Tensor
from .base import AdaptiveSteps, Array
from .norms import rms, scaled
from .numbers import Numbers, arithmetic

__all__ = ["PID"]

RESOLUTION = 10
"""Smallest sensible relative tolerance in units of the dtype's epsilon (SciPy's rule)."""

LEAST = 1e-60
"""Errors below this count as this: whatever the coefficients, they ask for the largest factor."""


@dataclass(frozen=True)
class PID(AdaptiveSteps):
    """A proportional–integral–derivative controller of the step size (Söderlind 2003).

    With error e (in units of the tolerance) and order k of its estimate, a step is multiplied by
    safety · e₀^(−(P+I+D)/k) · e₁^((P+2D)/k) · e₂^(−D/k); the default is the plain integral controller. Factors are
    rounded down to a `quantum` of an octave, so that a sample's steps repeat exactly whatever batch it is in.

    Args:
        rtol: relative tolerance; below 10 eps of the state's dtype it is raised to that, with a warning.
        atol: absolute tolerance; a tensor broadcasts against a sample of the state, `(*state)`.
        norm: "sample" gives each sample its own clock and steps (the state needs a batch axis, the field must not mix
            samples); "joint" measures all samples as one and moves them together.
        pcoeff: P of the formula.
        icoeff: I of the formula.
        dcoeff: D of the formula.
        safety: factor below the step that would just be accepted.
        factor_min: most a step may shrink at once.
        factor_max: most a step may grow at once.
        quantum: fraction of an octave that factors are rounded to; 0 switches it off, a joint norm does without.
        first_step: length of the first step; by default it is estimated (Hairer, Nørsett & Wanner, §II.4).
        dtmin: the shortest step that may be needed; a solve that needs shorter ones fails with `StepUnderflow`.
        dtmax: the longest step that is taken; None for any.
        step_ts: times that steps end on besides those of the output, where the solution is known to bend.

    Raises:
        InputError: for tolerances that are negative, not finite or both zero, and factors or bounds out of order.
    """

    rtol: float
    atol: float | Tensor
    norm: Literal["sample", "joint"] = "sample"
    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    safety: float = 0.9
    factor_min: float = 0.2
    factor_max: float = 10.0
    quantum: float = 0.125
    first_step: float | None = None
    dtmin: float = 0.0
    dtmax: float | None = None
    step_ts: Sequence[float] = ()

    def __post_init__(self) -> None:
        atol = torch.as_tensor(self.atol)
        if not (math.isfinite(self.rtol) and self.rtol >= 0 and bool((atol.isfinite() & (atol >= 0)).all())):
            raise InputError(f"PID got rtol={self.rtol}, atol={self.atol}; tolerances must be finite and not negative")
        if self.rtol == 0 and bool((atol == 0).any()):
            raise InputError("PID got rtol=0 and atol=0; no step could be accepted, give at least one of both")
        if self.norm not in ("sample", "joint"):
            raise InputError(f"PID got norm={self.norm!r}; accepted: 'sample', 'joint'")
        if not (0 < self.safety <= 1 and 0 < self.factor_min < 1 < self.factor_max and self.quantum >= 0):
            raise InputError(
                f"PID got safety={self.safety}, factor_min={self.factor_min}, factor_max={self.factor_max}, "
                f"quantum={self.quantum}; it needs 0 < safety <= 1, 0 < factor_min < 1 < factor_max, quantum >= 0"
            )
        self._check_lengths()

    def _check_lengths(self) -> None:
        if self.first_step is not None and not self.first_step > 0:
            raise InputError(f"PID got first_step={self.first_step}; it must be positive")
        if not 0 <= self.dtmin < (math.inf if self.dtmax is None else self.dtmax):
            raise InputError(f"PID got dtmin={self.dtmin}, dtmax={self.dtmax}; it needs 0 <= dtmin < dtmax")
        if not all(map(math.isfinite, self.step_ts)):
            raise InputError(f"PID got step_ts={list(self.step_ts)}; they must be finite times")

    @property
    def joint(self) -> bool:  # type: ignore[override]  # a field of the base, derived here
        """Whether all samples share one clock."""
        return self.norm == "joint"

    def within(self, dtype: torch.dtype) -> PID:
        """The controller with `rtol` raised, with a warning, to what numbers of `dtype` can resolve."""
        least = RESOLUTION * torch.finfo(dtype).eps
        if self.rtol >= least or self.rtol == 0:
            return self
        warnings.warn(f"rtol={self.rtol:g} is below what {dtype} resolves; using {least:.2g}", stacklevel=5)
        return replace(self, rtol=least)

    @torch.no_grad()
    def errors(self, error: State, y0: State, y1: State) -> Tensor:
        """The error in units of the tolerance, `(clocks,)`."""
        return rms(scaled(error, y0, y1, self.rtol, self.atol), self.joint)

    def first_steps(self, y0: State, f0: State, order: float, span: Array) -> Array:
        """The first guess of Hairer, Nørsett & Wanner, without the evaluation that would refine it, `(clocks,)`."""
        size, speed = (np.atleast_1d(self.errors(value, y0, y0).double().cpu().numpy()) for value in (y0, f0))
        if self.first_step is not None:
            return np.asarray(self._rounded(np.where(np.isfinite(speed), np.minimum(self.first_step, span), np.nan)))
        still = (size < 1e-5) | (speed < 1e-5)
        guess = np.where(still, 1e-6, 0.01 * size / np.where(speed > 0, speed, 1.0))
        guess = np.minimum(100 * guess, (0.01 / np.maximum(speed, 1e-15)) ** (1 / (order + 1)))
        return np.where(np.isfinite(speed), self._rounded(np.minimum(guess, span)), np.nan)

    def factors(self, error: Numbers, last: Numbers, before: Numbers, order: float) -> Numbers:
        """What to multiply the steps by; the smallest factor where the error is not finite."""
        xp = arithmetic(error)
        p, i, d = self.pcoeff / order, self.icoeff / order, self.dcoeff / order
        factor = self.safety * xp.clip(error, LEAST, math.inf) ** -(p + i + d)
        if p or d:
            factor = factor * xp.clip(last, LEAST, math.inf) ** (p + 2 * d) * xp.clip(before, LEAST, math.inf) ** -d
        factor = xp.clip(factor, self.factor_min, self.factor_max)
        factor = xp.where(error <= 1, factor, xp.clip(factor, 0.0, self.safety))
        return self._rounded(xp.where(xp.isfinite(error), factor, self.factor_min))

    def _rounded(self, value: Numbers) -> Numbers:
        if self.quantum == 0 or self.joint:  # a joint norm depends on the batch anyway
            return value
        xp = arithmetic(value)
        return 2.0 ** (xp.floor(xp.log2(value) / self.quantum) * self.quantum)
