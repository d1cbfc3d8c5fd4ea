"""Station: the sampler. What samplers share: steps of the probability flow from one level of noise to a lower one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

from ..errors import InputError
from ..states import as_float, axpy, each
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from .base import Solver, Step

__all__ = ["DenoisingSolver", "data", "mix"]


class DenoisingSolver(Solver):
    """A solver made for `Denoising` terms, in y and ρ: a subclass gives `info` and `walk`.

    ρ falls from noise to data, or rises on the way back to the noise that data are made of. A last step to ρ = 0 is the
    estimate of the data, at one evaluation, whatever the method. All samples of a batch share their levels of noise.
    """

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step from ρ = `t0` to `t1`.

        Raises:
            InputError: for a ρ below 0, or a step that begins at 0, where all noise is gone; and for levels of noise
                that differ by sample.
        """
        if any(isinstance(t, Tensor) and t.numel() > 1 for t in (t0, t1)):
            raise InputError(f"{self!r} got other levels of noise for each sample; a batch shares them: give floats")
        rho0, rho1 = as_float(t0), as_float(t1)
        if not (rho0 > 0.0 and rho1 >= 0.0):
            raise InputError(
                f"{self!r} got a step of ρ = σ/α from {rho0:g} to {rho1:g}; it begins above 0 and ends at 0 at least"
            )
        return self.walk(term, rho0, rho1, y0, carry)

    @abstractmethod
    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step from `rho0` to `rho1`, which may be 0."""


def data(rho: float, y: State, noise: State) -> State:
    """The data that a noise estimate believes in: D = y − ρ ε."""
    return axpy(-rho, noise, y)


def mix(weights: Sequence[float], states: Sequence[State]) -> State:
    """The sum of `weight · state`, one pass over memory for each."""
    (first, *others), (state, *rest) = weights, states
    start: State = each(lambda leaf: leaf * first, state)
    return reduce(lambda total, part: axpy(part[0], part[1], total), zip(others, rest, strict=True), start)
