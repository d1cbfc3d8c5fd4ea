"""Station: the data. Maps and motions in closed form: what an equation must be able to do, and the truth beside it."""

from __future__ import annotations

import math

import torch

from ..errors import InputError
from ..types import Tensor
from .batches import Series, Tensors, stream
from .memory import InMemory

__all__ = ["Oscillator", "Reflection", "oscillation"]

GAP = 0.1
"""The share of an interval that irregular times keep apart, so that they increase strictly in float32 too."""

AMPLITUDE = 1.5
"""The largest position, and the largest velocity, at the start of an oscillation."""


class Reflection(InMemory):
    """The map x ↦ −x of points drawn evenly from [−1, 1] in each channel.

    In one dimension no flow is this map: trajectories of du/dt = f(t, u) keep their order. The best that any increasing
    map does is a constant, whose mean squared error is the variance of the targets, 1/3. In three dimensions, as in
    any odd number, no flow is the map either, though some come close to it on average; in two, a half turn is.

    Args:
        batch_size: samples per batch on each device.
        channels: dimensions of a point.
        train: number of training points.
        val: number of points for validation.
        test: number of points for the test.
        data_seed: which points.

    Source: the first example of Dupont et al., Augmented Neural ODEs, NeurIPS 2019 (arXiv 1904.01681).
    """

    def __init__(
        self,
        batch_size: int = 64,
        channels: int = 1,
        train: int = 512,
        val: int = 128,
        test: int = 256,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size)
        _check_counts("Reflection", channels=channels, train=train, val=val, test=test)
        self.channels, self.sizes, self.data_seed = channels, (train, val, test), data_seed

    def load(self) -> tuple[Tensors, dict[str, Tensor]]:
        """The points `(samples, channels)` and their images."""
        rng = stream(self.data_seed)
        x = torch.from_numpy(rng.uniform(-1.0, 1.0, (sum(self.sizes), self.channels))).float()
        return Tensors(x, -x), _parts(self.sizes)


class Oscillator(InMemory):
    """Damped harmonic oscillations q'' + 2 ζ ω q' + ω² q = 0 from many starts, by their closed form.

    The targets are the positions `(batch, time, 1)`; the start gives the first of them, `(batch, 1)`. The velocity is
    not observed: it begins as `kick` times the position, which a network may learn. Where the positions have passed
    through zero their order is turned over, so that no first-order equation for q alone has these courses. With
    `velocity` both are observed, start and course have two channels (q, v), and the velocities at the start are drawn.

    Args:
        batch_size: courses per batch on each device.
        frequency: ω, in radians per unit of time.
        damping: ζ, from 0 to below 1.
        kick: velocity at the start, as a multiple of the position there.
        velocity: whether velocities are observed, too.
        horizon: the last time; the first is 0.
        points: how many times, the first among them.
        irregular: whether each course has times of its own, one drawn from each interval of a regular grid.
        train: number of training courses.
        val: number of courses for validation.
        test: number of courses for the test.
        data_seed: which starts and times.
    """

    def __init__(
        self,
        batch_size: int = 32,
        frequency: float = 1.0,
        damping: float = 0.1,
        kick: float = 0.0,
        velocity: bool = False,
        horizon: float = 6.0,
        points: int = 25,
        irregular: bool = False,
        train: int = 128,
        val: int = 32,
        test: int = 64,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size)
        _check_counts("Oscillator", train=train, val=val, test=test)
        if points < 2:
            raise InputError(f"Oscillator: points is {points}; at least 2 are needed, the start and another")
        if not (frequency > 0 and 0 <= damping < 1 and 0 < horizon < math.inf):
            raise InputError(
                f"Oscillator: frequency is {frequency:g}, damping {damping:g}, horizon {horizon:g}; the frequency and "
                "the horizon must be above 0, the damping from 0 to below 1"
            )
        self.frequency, self.damping, self.kick, self.velocity = frequency, damping, kick, velocity
        self.horizon, self.points, self.irregular = horizon, points, irregular
        self.sizes, self.data_seed = (train, val, test), data_seed

    def load(self) -> tuple[Series, dict[str, Tensor]]:
        """The courses, in the order training, validation, test; all of them depend on `data_seed` alone."""
        samples, rng = sum(self.sizes), stream(self.data_seed)
        q0, drawn = torch.from_numpy(rng.uniform(-AMPLITUDE, AMPLITUDE, (2, samples, 1)))
        v0 = drawn if self.velocity else self.kick * q0
        ts = torch.linspace(0.0, self.horizon, self.points)  # (time,)
        if self.irregular:
            back = torch.from_numpy(rng.uniform(0.0, 1.0 - GAP, (samples, self.points))).float()
            back[:, 0] = 0.0
            ts = ts - back * (self.horizon / (self.points - 1))  # (samples, time)
        q, v = oscillation(ts.double(), q0, v0, self.frequency, self.damping)  # (samples, time)
        values = torch.stack([q, v] if self.velocity else [q], 2).float()
        starts = torch.cat([q0, v0] if self.velocity else [q0], 1).float()
        return Series(starts, ts, values), _parts(self.sizes)


def oscillation(t: Tensor, q0: Tensor, v0: Tensor, frequency: float, damping: float) -> tuple[Tensor, Tensor]:
    """Position and velocity of the damped oscillation q'' + 2 ζ ω q' + ω² q = 0 at time `t`.

    Args:
        t: the time since the start; it broadcasts against the others.
        q0: positions at the start.
        v0: velocities at the start.
        frequency: ω.
        damping: ζ, from 0 to below 1.
    """
    decay, turn = damping * frequency, frequency * math.sqrt(1.0 - damping**2)
    shrink, cos, sin = torch.exp(-decay * t), torch.cos(turn * t), torch.sin(turn * t)
    q = shrink * (q0 * cos + (v0 + decay * q0) / turn * sin)
    v = shrink * (v0 * cos - (frequency**2 * q0 + decay * v0) / turn * sin)
    return q, v


def _parts(sizes: tuple[int, int, int]) -> dict[str, Tensor]:
    """Positions of the parts, one behind the other: samples that are drawn alike need no shuffling."""
    return dict(zip(("train", "val", "test"), torch.split(torch.arange(sum(sizes)), list(sizes)), strict=True))


def _check_counts(name: str, **counts: int) -> None:
    for what, count in counts.items():
        if count < 1:
            raise InputError(f"{name}: {what} is {count}; at least 1 is needed")
