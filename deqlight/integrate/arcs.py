"""Station: the clock, between its ticks. One step of some samples as a curve, and where an event lies on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ..errors import InputError
from ..events import Event
from ..interpolation import horner
from ..rootfind import bracketed
from ..states import each, finite_samples
from ..times import Array, Places
from ..types import State, Tensor
from .signs import Changes

__all__ = ["Arc"]

CORRECTIONS = 2
"""Newton steps with a constant slope that a root is made a function by: so many derivatives of it are right."""

ULP = float(np.finfo(np.float64).eps)

FLAT = 2 / 3
"""A slope below eps to this power, in units of the mean slope around the root, is what rounding leaves of zero."""


@dataclass(frozen=True)
class Arc:
    """One step of some samples, as polynomials in x = (t − t0)/(t1 − t0).

    Attributes:
        samples: which samples, `(rows,)`.
        t0: where the step begins, `(rows,)`, float64.
        t1: where it ends, `(rows,)`.
        coefficients: states `(rows, *state)`, lowest power first.
    """

    samples: Places
    t0: Tensor
    t1: Tensor
    coefficients: tuple[State, ...]

    def rows(self, places: Places) -> Arc:
        """These rows alone, as often as they are named; all of them in order are the arc itself."""
        if np.array_equal(places, np.arange(len(self.samples))):
            return self
        index = self.index(places)
        powers = tuple(each(lambda leaf: leaf[index], power) for power in self.coefficients)
        return Arc(self.samples[places], self.t0[index], self.t1[index], powers)

    def detached(self) -> Arc:
        """The same without a graph."""
        powers = tuple(each(torch.detach, power) for power in self.coefficients)
        return Arc(self.samples, self.t0.detach(), self.t1.detach(), powers)

    def at(self, x: Tensor) -> tuple[Tensor, State]:
        """Times and states at `x`, `(rows,)` or `(points, rows)`; the ends of the step exactly at 0 and 1."""
        length = self.t1 - self.t0
        t = torch.where(x < 0.5, self.t0 + x * length, self.t1 - (1 - x) * length)
        return t, horner(self.coefficients, x)

    def value(self, event: Event, x: Tensor) -> Tensor:
        """The condition of an event there, `(rows,)`; the event has this arc's rows of data."""
        return event.value(*self.at(x))

    def values(self, event: Event, x: Array) -> Array:
        """The condition of an event at points `(points, rows)`, on the host; NaN where the state is not finite.

        Raises:
            InputError: where it is NaN although the state is finite.
        """
        t, y = self.at(self.tensor(x))
        t, y = t.flatten(), each(lambda leaf: leaf.flatten(0, 1), y)
        whose = self.index(np.tile(self.samples, len(x))) if event.data else self.t0
        values = event.rows(whose).value(t, y).detach().double().cpu().numpy()
        lost = np.isnan(values)
        if lost.any() and (lost & finite_samples(y).numpy()).any():
            place = int((lost & finite_samples(y).numpy()).nonzero()[0][0])
            raise InputError(
                f"the condition of event '{event.title}' is NaN at t = {float(t[place]):g} for sample "
                f"{self.samples[place % len(self.samples)]}; it must be a number wherever the solution goes, and a "
                "little beyond its zero"
            )
        return values.reshape(x.shape)

    def root(self, event: Event, between: Changes) -> Array:
        """Where the condition vanishes, one change of its sign for each row: `(rows,)`, to rounding of the time."""
        t0, t1 = self.t0.cpu().numpy(), self.t1.cpu().numpy()
        reach = np.maximum(np.abs(t0), np.abs(t1)) * ULP / 2
        ends, values = (between.start, between.end), (between.before, between.after)
        return bracketed(lambda x: self.values(event, x[None])[0], ends, values, reach / np.abs(t1 - t0))

    def follow(self, event: Event, x: Tensor, between: Changes) -> Tensor:
        """A root as a function of all that the arc and the condition depend on, its value unchanged.

        One Newton step with the slope held constant has the derivative that the implicit function theorem gives, each
        further one the next higher derivative. Where the slope vanishes there is none, and a backward pass that asks
        for it is refused.
        """
        mine = event.rows(self.index(self.samples))
        value = self.value(mine, x)
        if not value.requires_grad:
            return x
        slope = self._slope(mine, x)
        mean = self.tensor(np.abs(between.after - between.before) / (between.end - between.start))
        flat = slope.abs() <= mean * torch.finfo(value.dtype).eps ** FLAT
        slope, root = torch.where(flat, 1.0, slope), x
        for correction in range(CORRECTIONS):
            value = self.value(mine, x) if correction else value
            x = x - torch.where(flat, 0.0, (value - value.detach()).double() / slope)
        x = root + (x - x.detach())
        if bool(flat.any()):
            x.register_hook(partial(_refuse, event.title, flat, self.samples, self.at(root)[0].detach()))  # type: ignore[no-untyped-call]  # as torch has it
        return x

    def _slope(self, event: Event, x: Tensor) -> Tensor:
        """How fast the condition changes along the arc, `(rows,)`."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.detached().value(event, leaf)
            if not value.requires_grad:
                return torch.zeros_like(x)
            (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        return torch.zeros_like(x) if slope is None else slope

    def index(self, places: Places) -> Tensor:
        """Places as a tensor where the arc is."""
        return torch.as_tensor(places, device=self.t0.device)

    def tensor(self, numbers: Array) -> Tensor:
        """Numbers as a tensor where the arc is, float64."""
        return torch.as_tensor(numbers, dtype=torch.float64, device=self.t0.device)


def _refuse(title: str, flat: Tensor, samples: Places, t: Tensor, grad: Tensor) -> None:
    """The gradient that arrives at the roots."""
    lost = (flat & (grad != 0)).nonzero()[:, 0]
    if len(lost):
        place = int(lost[0])
        raise InputError(
            f"event '{title}' has no derivative at t = {float(t[place]):g}, sample {samples[place]}: its condition "
            "does not rise or fall there but touches zero; leave that crossing out of the loss"
        )
