"""Station: when it fails. What becomes of the samples that a solve could not finish, and of the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np
import torch

from .controllers import AdaptiveSteps, Controller, FixedSteps
from .errors import SolverFailure
from .events import no_crossings
from .interpolation import Dense, Segment
from .problem import Path, Problem
from .solution import Stats
from .solvers import Solver
from .states import each, leaves
from .times import OwnTimes, Places
from .types import State, Tensor

__all__ = ["Fallback", "Freeze", "Policy", "Raise"]

Attempt: TypeAlias = Callable[[Problem], Path]
"""Integrates a problem by the chosen gradient method."""


class Policy(ABC):
    """What to do when samples fail (`SolverFailure` with samples); other errors are always raised."""

    @abstractmethod
    def run(self, problem: Problem, attempt: Attempt) -> Path:
        """Integrate the problem, and deal with the samples that fail."""

    def seconds(self) -> Sequence[tuple[Solver, Controller | None]]:
        """The solvers, with their controllers (None: the first one's), that may have to step in."""
        return ()


@dataclass(frozen=True)
class Raise(Policy):
    """A failure of any sample is raised; nothing is returned."""

    def run(self, problem: Problem, attempt: Attempt) -> Path:
        """The attempt alone."""
        return attempt(problem)


@dataclass(frozen=True)
class Freeze(Policy):
    """Samples that fail become NaN and are reported (`Solution.failures`); the others are as if those were not there.

    With a clock for each sample the others go on, and a failed one keeps the states that it reached. On fixed grids,
    and with a joint norm, the others are integrated again without the failed ones, which are NaN at all times.
    """

    def run(self, problem: Problem, attempt: Attempt) -> Path:
        """Attempt; where samples fail that hold up the others, once more without them."""
        try:
            return attempt(replace(problem, freeze=True))
        except SolverFailure as failure:
            if not failure.samples:
                raise
            lost = np.array(failure.samples, dtype=np.int64)
            rest = np.setdiff1d(np.arange(problem.batch), lost)
            nothing = _nothing(problem, failure)
            if not len(rest):
                return nothing
            path = self.run(problem.rows(rest), attempt)
            return replace(_placed(nothing, problem, rest, path), failures=(failure, *_of_whole(path.failures, rest)))


@dataclass(frozen=True)
class Fallback(Policy):
    """Samples that fail are integrated again, from the start, by another solver; the others keep their solution.

    Args:
        solver: the other solver, such as one for stiff fields.
        controller: its steps; None keeps the first solver's controller.
        then: what to do when it fails, too.
    """

    solver: Solver
    controller: Controller | None = None
    then: Policy = Raise()

    def run(self, problem: Problem, attempt: Attempt) -> Path:
        """Attempt, and attempt what failed by the other solver."""
        path = Freeze().run(problem, attempt)
        if not path.failures:
            return path
        lost = np.array(sorted(i for failure in path.failures for i in failure.samples), dtype=np.int64)
        controller = cast("FixedSteps | AdaptiveSteps", self.controller or problem.controller)
        second = replace(problem.rows(lost), solver=self.solver, controller=controller).paced()
        again = self.then.run(second, attempt)
        return replace(_placed(path, problem, lost, again), failures=_of_whole(again.failures, lost))

    def seconds(self) -> Sequence[tuple[Solver, Controller | None]]:
        """Its own solver, and those of what follows."""
        return ((self.solver, self.controller), *self.then.seconds())


def _of_whole(failures: Sequence[SolverFailure], samples: Places) -> tuple[SolverFailure, ...]:
    """Failures of a part of the batch, these samples, as failures of the whole."""
    return tuple(failure.among([int(samples[i]) for i in failure.samples]) for failure in failures)


def _nothing(problem: Problem, failure: SolverFailure) -> Path:
    """The path of a problem whose samples all failed."""
    rows = each(lambda leaf: leaf.new_full((problem.slots, *leaf.shape[1:]), torch.nan), problem.y0)
    spent = torch.full((problem.batch,), failure.nfe or 0)
    stats = Stats(spent, torch.zeros_like(spent), torch.zeros_like(spent))
    dense = Dense((), problem.host_ends) if problem.saveat.dense else None
    events = tuple(no_crossings(event, problem.y0) for event in problem.events)
    return Path(problem.shaped(rows), None, stats, dense, (failure,), events)


def _placed(whole: Path, problem: Problem, samples: Places, part: Path) -> Path:
    """The path with these samples' solutions in place of what stood there."""
    index = torch.as_tensor(samples)

    def among(a: Tensor, b: Tensor) -> Tensor:
        return a.index_copy(0, index.to(a.device), b)

    if problem.ragged:
        offsets = cast(OwnTimes, problem.ts).offsets
        slots = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in samples])
        ys: State = each(lambda a, b: a.index_copy(0, torch.as_tensor(slots, device=a.device), b), whole.ys, part.ys)
    else:
        ys = each(lambda a, b: a.index_copy(1, index.to(a.device), b), whole.ys, part.ys)
    a, b = whole.stats, part.stats
    nfe = a.nfe + among(torch.zeros_like(a.nfe), b.nfe)
    stats = Stats(nfe, among(a.accepted, b.accepted), among(a.rejected, b.rejected), (a, b))
    pairs = zip(whole.events, part.events, strict=True)
    events = tuple(old.without(samples).joined([(new, samples)]) for old, new in pairs)
    return Path(ys, None, stats, _drawn(whole.dense, samples, part.dense), whole.failures, events)


def _drawn(whole: Dense | None, samples: Places, part: Dense | None) -> Dense | None:
    """All polynomials of both, those of `samples` from the part."""
    if whole is None or part is None:
        return None
    kept = []
    for segment in whole.segments:
        stay = ~np.isin(segment.samples, samples)
        index = torch.as_tensor(stay.nonzero()[0], device=leaves(segment.coefficients[0])[0].device)
        rows = tuple(each(lambda leaf: leaf[index], c) for c in segment.coefficients)  # noqa: B023  used at once
        kept.append(Segment(segment.samples[stay], segment.t0[stay], segment.t1[stay], rows))
    new = [replace(segment, samples=samples[segment.samples]) for segment in part.segments]
    until = whole.until.copy()
    until[samples] = part.until
    return Dense([*kept, *new], whole.ends, until)
