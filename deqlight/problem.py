"""Station: what a solve is made of, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from .compiling import Compile
from .controllers import AdaptiveSteps, FixedSteps
from .errors import SolverFailure
from .events import Crossings, Event
from .interpolation import Dense
from .saveat import SaveAt
from .solution import Stats
from .solvers import Solver
from .states import as_float, batch_size, each, last_of, leaves
from .terms import Stochastic, Term
from .times import Array, OwnTimes, Places, Times, column
from .types import Carry, State, Time

__all__ = ["Path", "Problem"]


@dataclass(frozen=True)
class Problem:
    """Everything a solve is made of, checked; gradient methods wrap its integration.

    Attributes:
        freeze: whether a sample that fails under a clock of its own lets the others go on.
        events: what to look for on the way.
        compile: how its steps are compiled; None runs them eagerly.
    """

    term: Term
    solver: Solver
    y0: State
    ts: Times
    controller: FixedSteps | AdaptiveSteps
    saveat: SaveAt
    max_steps: int
    freeze: bool = False
    events: tuple[Event, ...] = ()
    compile: Compile | None = None

    @property
    def batch(self) -> int:
        """Length of axis 0 of the state; 1 for a state without axes."""
        return batch_size(self.y0)

    @property
    def own_clocks(self) -> bool:
        """Whether each sample has a clock of its own, on the host; else one grid of times serves all."""
        if isinstance(self.controller, AdaptiveSteps):
            return not self.controller.joint
        if any(event.effect is not None for event in self.events):
            return True  # they start again, each at a time of its own
        return isinstance(self.ts, OwnTimes) and (self.ts.ragged or bool(self.restarts()))

    @property
    def error_order(self) -> float:
        """The power of the step that the error estimate shrinks with; with noise, 1/2 above the strong order."""
        if isinstance(self.term, Stochastic):
            return self.solver.info.strong_order[self.term.noise] + 0.5
        return self.solver.info.error_order or 1

    @property
    def ends(self) -> tuple[Time, Time]:
        """The first and the last time."""
        if isinstance(self.ts, OwnTimes):
            return tuple(column(t, leaves(self.y0)[0]) for t in self.host_ends)  # type: ignore[return-value]  # two
        return self.ts[0], self.ts[-1]

    @property
    def host_ends(self) -> tuple[Array, Array]:
        """The first and the last time of each sample, both `(batch,)`."""
        if isinstance(self.ts, OwnTimes):
            return self.ts.values[self.ts.offsets[:-1]], self.ts.values[self.ts.offsets[1:] - 1]
        start, end = (np.full(self.batch, as_float(t)) for t in (self.ts[0], self.ts[-1]))
        return start, end

    @property
    def way(self) -> Array:
        """The direction of each sample's time, 1 or −1: `(batch,)`."""
        start, end = self.host_ends
        return np.sign(end - start)

    @property
    def span(self) -> float:
        """How long the solve is; of samples with times of their own, the longest."""
        if isinstance(self.ts, OwnTimes):
            start, end = self.host_ends
            return float(np.abs(end - start).max())
        return abs(as_float(self.ts[-1]) - as_float(self.ts[0]))

    def grid(self) -> tuple[list[Time], list[int]]:
        """For fixed steps, the times of all steps, and the places among them of the states to keep."""
        times, marks = cast(FixedSteps, self.controller).grid(self._columns())
        return times, marks[-1:] if self.saveat.final else marks

    def rows(self, index: Places) -> Problem:
        """The same problem for some samples alone."""
        places = torch.as_tensor(index, device=leaves(self.y0)[0].device)
        ts = self.ts.rows(index) if isinstance(self.ts, OwnTimes) else self.ts
        y0 = each(lambda leaf: leaf[places], self.y0)
        events = tuple(event.rows(places) for event in self.events)
        return replace(self, term=self.term.rows(places), y0=y0, ts=ts, events=events)

    def paced(self) -> Problem:
        """The same problem with tolerances that its dtype resolves, and a solver that iterates to these."""
        if isinstance(self.controller, FixedSteps):
            return self
        controller = self.controller.within(leaves(self.y0)[0].dtype)
        return replace(self, controller=controller, solver=self.solver.within(controller.rtol, controller.atol))

    def restarts(self) -> set[float]:
        """The times where the field jumps, so that a solver must begin anew."""
        return set(self.jumps()) if self.term.continuous else set()

    @property
    def ragged(self) -> bool:
        """Whether states are kept sample by sample, `(total, *state)`; else by time, `(time, batch, *state)`."""
        return isinstance(self.ts, OwnTimes) and self.ts.ragged and not self.saveat.final

    @property
    def slots(self) -> int:
        """How many states are asked for, all samples together."""
        return len(cast(OwnTimes, self.ts).values) if self.ragged else self.batch * self._kept

    @property
    def _kept(self) -> int:
        """How many times are kept, where all samples have as many."""
        return 1 if self.saveat.final else len(self.ts.table() if isinstance(self.ts, OwnTimes) else self.ts)

    def shaped(self, kept: State) -> State:
        """States in the order of their slots, as `Path.ys` has them."""
        if self.ragged or not leaves(self.y0)[0].dim():
            return kept
        return each(lambda leaf: leaf.reshape(self._kept, self.batch, *leaf.shape[1:]), kept)

    def marks(self) -> tuple[Places, Array]:
        """Whose each kept state is, and of what time, in the order of their slots: both `(slots,)`."""
        if self.saveat.final:
            return np.arange(self.batch), self.host_ends[1]
        if isinstance(self.ts, OwnTimes) and self.ts.ragged:
            return np.repeat(np.arange(self.batch), np.diff(self.ts.offsets)), self.ts.values
        table = self.ts.table() if isinstance(self.ts, OwnTimes) else np.array([[as_float(t)] for t in self.ts])
        table = np.broadcast_to(table, (len(table), self.batch))
        return np.tile(np.arange(self.batch), len(table)), table.ravel()

    def between(self, dense: Dense) -> State:
        """The states at the output times, in the order of their slots, read off the steps."""
        samples, times = self.marks()
        device = leaves(self.y0)[0].device
        return dense.points(samples, torch.tensor(times, dtype=torch.float64, device=device))

    def lists(self) -> Iterator[Sequence[float]]:
        """The times of each sample, or those of all."""
        if isinstance(self.ts, OwnTimes):
            yield from (self.ts.of(i).tolist() for i in range(self.batch))
        else:
            yield [as_float(t) for t in self.ts]

    def jumps(self) -> tuple[float, ...]:
        """The times where steps must end because of the term."""
        if isinstance(self.ts, OwnTimes):
            low, high = (float(f(self.ts.values)) if self.batch else 0.0 for f in (np.min, np.max))
        else:
            low, high = sorted((as_float(self.ts[0]), as_float(self.ts[-1])))
        return self.term.jumps(low, high)

    def _columns(self) -> tuple[Time, ...]:
        return self.ts.columns(leaves(self.y0)[0]) if isinstance(self.ts, OwnTimes) else self.ts


@dataclass(frozen=True)
class Path:
    """What an integration leaves: the kept states, the solver's memory at the end, the costs, the steps, the failures.

    Attributes:
        ys: `(time, batch, *state)`; for ragged times `(total, *state)`.
        events: what was found on the way, for each event of the problem.
    """

    ys: State
    carry: Carry
    stats: Stats
    dense: Dense | None = None
    failures: tuple[SolverFailure, ...] = ()
    events: tuple[Crossings, ...] = ()

    @property
    def y1(self) -> State:
        """The state at the last time, where all samples have the same times."""
        return last_of(self.ys)
