"""Station: the sampler. What samplers share: steps of the probability flow from one level of noise to a lower one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple, cast

import torch

from ..errors import InputError
from ..schedules import FlowTime, Grid
from ..states import as_float, axpy, each
from ..terms import Denoising, Term
from ..terms.room import Room
from ..types import Carry, State, Tensor, Time
from .base import Solver, SolverInfo, Step

__all__ = ["DataSampler", "DenoisingSolver", "MultistepSampler", "Past", "between", "capped", "data", "mix"]

REMEMBERED = 4096
"""For how many steps weights are kept: one solve after another over the same grid has the same."""


class DenoisingSolver(Solver):
    """A solver made for `Denoising` terms, in y and ρ: a subclass gives `info` and `walk`.

    ρ falls from noise to data, or rises on the way back to the noise that data are made of. A last step to ρ = 0 is the
    estimate of the data, at one evaluation, whatever the method. All samples of a batch share their levels of noise.

    Attributes:
        grid: where to step, unless there is a better reason: `solver.grid.times(schedule, steps)`. Of the grids that
            there are, the one with the least error over 5 to 50 evaluations, or nearly: `benchmarks/samplers.py`.
    """

    grid: Grid = FlowTime()

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step from ρ = `t0` to `t1`.

        Raises:
            InputError: for a ρ below 0, or a step that begins at 0, where all noise is gone; and for levels of noise
                that differ by sample.
        """
        if type(t0) is float and type(t1) is float and t0 > 0.0 and t1 >= 0.0:
            return self.walk(term, t0, t1, y0, carry)  # as it is but for solves with times of a gradient
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


class Past(NamedTuple):
    """What a sampler remembers of the steps behind: estimates, the newest first, and where they were made."""

    estimates: tuple[State, ...] = ()
    rhos: tuple[float, ...] = ()
    points: int = 0
    """How many of them the last step used."""
    row: int = -1
    """Where the newest lies, if they lie side by side in the term's room."""


class MultistepSampler(DenoisingSolver):
    """A sampler of one evaluation a step, whose step is a sum of the state and estimates of this and earlier steps.

    A subclass gives `info`, `order`, `kept`, `weights` and `estimate`.
    """

    order: int
    """How many estimates a step uses at most."""
    kept: int
    """How many are remembered."""
    beside: bool = True
    """Whether it is faster to lay the estimates side by side and sum them at once, where that can be done."""
    lower_final: bool = False
    """Whether the last steps use as many estimates as there are steps left, where that is known.

    In log-SNR the end is far away, and a polynomial through estimates of much noise says little of it: of few steps,
    the last are better of lower order, and that is the default of those samplers. Of very many, the whole then is of
    order 2 at most, and says so. In the time of a schedule or in an angle the end is near, and it does not pay.
    """

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` are the estimates before, and where they were made."""
        term, noise, behind = cast(Denoising, term), term.vf(rho0, y0), Past() if carry is None else carry
        rhos, kept = (rho0, *behind.rhos), self.kept
        points = self._points(term, rho0, rho1, len(rhos))
        if rho1 == 0.0:
            return Step(data(rho0, y0, noise), Past())
        weights = self.weights(term, rho1, rhos, points, behind.points)
        room = term.room if self.beside else None
        if room is not None and room.serves(y0, noise, kept + 1) and _is_at_home(room, behind):  # type: ignore[arg-type]
            row = (behind.row + 1) % (kept + 1)
            now = self.estimate(rho0, y0, noise, room.rows[row])
            y1: State = room.sum(y0, weights, row, min(len(rhos), kept + 1))  # type: ignore[arg-type]  # served
        else:
            row, now = -1, self.estimate(rho0, y0, noise)
            y1 = mix(weights, (y0, now, *behind.estimates[: len(weights) - 2]))
        return Step(y1, Past((now, *behind.estimates)[:kept], rhos[:kept], points, row))

    @abstractmethod
    def estimate(self, rho: float, y: State, noise: State, out: Tensor | None = None) -> State:
        """What is remembered of the noise estimate at `y`; written to `out`, if that is given."""

    @abstractmethod
    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """What a step to the level `end` multiplies the state with, and the estimates, the newest first.

        Args:
            term: the term, for its schedule.
            end: where the step ends, above 0.
            rhos: where the estimates were made, the newest first: here, then at the steps behind.
            points: how many of them to use.
            before: how many the step before used; 0 if there was none.
        """

    def _points(self, term: Term, rho0: float, rho1: float, known: int) -> int:
        most = min(self.order, known)
        left = cast(Denoising, term).left(rho0) if self.lower_final and rho1 < rho0 else None
        return most if left is None else max(1, min(most, left))


class DataSampler(MultistepSampler):
    """One that remembers the data that the noise estimates believe in."""

    def estimate(self, rho: float, y: State, noise: State, out: Tensor | None = None) -> State:
        """The data."""
        if out is None:
            return data(rho, y, noise)
        return torch.add(cast(Tensor, y), cast(Tensor, noise), alpha=-rho, out=out)


def _is_at_home(room: Room, past: Past) -> bool:
    """Whether what is remembered lies in this room, or nothing is."""
    return not past.estimates or (past.row >= 0 and room.rows[past.row] is past.estimates[0])


def capped(info: SolverInfo, lower_final: bool) -> SolverInfo:
    """What is claimed with lower orders at the end: a last step of order 1 makes the whole of order 2 at most."""
    return replace(info, order=min(info.order, 2)) if lower_final else info


def data(rho: float, y: State, noise: State) -> State:
    """The data that a noise estimate believes in: D = y − ρ ε."""
    return axpy(-rho, noise, y)


def between(share: float, y: State, estimate: State) -> State:
    """`share · y + (1 − share) · estimate`, in one pass over memory."""
    mixed: State = each(lambda a, b: torch.lerp(b, a, share), y, estimate)
    return mixed


def mix(weights: Sequence[float], states: Sequence[State]) -> State:
    """The sum of `weight · state`, one pass over memory for each."""
    (first, *others), (state, *rest) = weights, states
    start: State = each(lambda leaf: leaf * first, state) if first != 1.0 else state
    return reduce(lambda total, part: axpy(part[0], part[1], total), zip(others, rest, strict=True), start)
