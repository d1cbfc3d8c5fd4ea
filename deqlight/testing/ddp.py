"""Station: the measuring bench, its pair of processes. Whether training does not depend on how many processes do it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..controllers import Controller
from ..errors import ConformanceError, InputError
from ..gradients import Direct, Gradient
from ..solvers import Solver
from .courses import Course, Taken, courses, trained
from .report import Report, Row

__all__ = ["Ranks", "check_ddp", "ddp_report", "trained_by_two"]

WORLD = 2

PATIENCE = 120.0
"""Seconds after which processes that are not done are ended; they take some ten on an idle machine."""

NAP = 0.05
"""Seconds between two looks at the processes."""

WITHIN = 1e-10
"""How far parameters may differ after three steps, in float64; sums in another order leave 1e-15."""

DIFFERS = (
    "With two processes other parameters come out than with one. Parameters must be inputs of one autograd.Function, "
    "and its backward return their gradients, each summed over the whole solve: calling backward() inside of it hands "
    "them over too early."
)
DRIFTS = "The processes train different networks: a gradient was added behind the back of DistributedDataParallel."
UNMOVED = (
    "Training leaves these parameters where they are: they are no inputs of the autograd.Function, so that it has no "
    "gradient for them."
)
RAISED = (
    "A process raised this. That a reduction was not finished, or parameters not used, says that parameters are no "
    "inputs of the autograd.Function; a closed connection, that the other process failed or is stuck."
)
ALIKE = "Both processes took equally many steps, although their samples ask for different ones."


@dataclass(frozen=True)
class Ranks:
    """A training by two processes, beside the same by one.

    Attributes:
        course: the training.
        difference: the largest difference of a parameter, between two processes and one.
        drift: the largest difference of a parameter between the processes.
        unmoved: parameters that are used and were left where they began, by one process or by two.
        steps: steps that each process tried in all.
        error: what a process raised; empty where both finished.
    """

    course: Course
    difference: float = 0.0
    drift: float = 0.0
    unmoved: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    error: str = ""

    @property
    def why(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        if self.error:
            return f"{RAISED} {self.error}"
        if not self.drift < WITHIN:
            return DRIFTS
        if not self.difference < WITHIN:
            return DIFFERS
        if self.unmoved:
            return f"{UNMOVED} {', '.join(self.unmoved)}"
        return ALIKE if self.course.measured and len(set(self.steps)) == 1 else ""

    def row(self) -> Row:
        """The measurement as a line of a report."""
        course, told = self.course, f"{self.difference:.1e}, drift {self.drift:.1e}"
        told = f"{told}; {' and '.join(map(str, self.steps))} steps" if course.measured else told
        told = "an error" if self.error else f"{told}; {len(self.unmoved)} unmoved" if self.unmoved else told
        example = f"{course.gradient!r}, {course.solver!r}"
        return Row(example, course.name, f"< {WITHIN:.0e}", told, not self.why, self.why)


def check_ddp(solver: Solver, gradient: Gradient = Direct(), controller: Controller | None = None) -> Report:  # noqa: B008
    """Train a small network by two processes and by one with the same samples; the parameters must come out equal.

    Three steps of an optimiser, in float64 on the CPU, in every way that solver and rule accept: a network of layers,
    equal steps, and measured ones, of which each process needs another number; each without and with a parameter that
    nothing uses. The equation is solved twice, with matrices that are used several times.

    Args:
        solver: the solver, of a class that can be imported; what belongs to it is pickled.
        gradient: the gradient rule, likewise.
        controller: the only steps to take; None for all ways.

    Raises:
        ConformanceError: with the table, if parameters differ, if they drift apart, if one that is used is not trained,
            or if a process fails or does not end in time.
        InputError: for a solver and a rule that do not go together, and for classes that another process cannot import.
    """
    found = ddp_report([(solver, gradient, controller)])
    if not found.ok:
        raise ConformanceError(f"{gradient!r} with {solver!r} does not train the same on two processes\n{found}")
    return found


def ddp_report(pairs: Iterable[tuple[Solver, Gradient] | tuple[Solver, Gradient, Controller | None]]) -> Report:
    """The same of many solvers and rules, one row for each way: the two processes are started once."""
    plans = [course for pair in pairs for course in courses(*pair)]
    return Report("two processes", tuple(found.row() for found in trained_by_two(plans)))


def trained_by_two(plans: Sequence[Course], patience: float = PATIENCE) -> list[Ranks]:
    """Take every course by one process, this one, and by two.

    A course that fails ends both processes; the others are taken by two new ones.

    Args:
        plans: the trainings.
        patience: seconds after which processes that have not finished are ended.
    """
    _check_importable(plans)
    found, alone = list[Ranks](), [trained(course) for course in plans]
    while len(found) < len(plans):
        todo = plans[len(found) :]
        for course, one, two in zip(todo, alone[len(found) :], _by_two(todo, patience), strict=False):
            found.append(_compared(course, one, two))
    return found


def _compared(course: Course, one: Taken, two: Sequence[Taken | str]) -> Ranks:
    told = [rank for rank in two if isinstance(rank, str)]
    if told:
        return Ranks(course, error="; ".join(dict.fromkeys(told)))
    first, second = (rank for rank in two if isinstance(rank, Taken))
    difference, drift = _apart(one, first), _apart(first, second)
    unmoved = tuple(dict.fromkeys((*one.unmoved, *first.unmoved)))
    return Ranks(course, difference, drift, unmoved, (sum(first.steps), sum(second.steps)))


def _apart(one: Taken, other: Taken) -> float:
    """The largest difference of a parameter; NaN if there is one."""
    gaps = [(p - other.parameters[name]).abs().max() for name, p in one.parameters.items()]
    return float(torch.stack(gaps).max())


def _by_two(plans: Sequence[Course], patience: float) -> list[list[Taken | str]]:
    """What two processes make of the courses, up to the first that fails, that one included."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "courses").write_bytes(pickle.dumps(list(plans)))
        command = [sys.executable, "-m", f"{__package__}.rank"]
        logs = [(folder / f"log-{rank}").open("w+") for rank in range(WORLD)]
        ranks = [
            subprocess.Popen([*command, str(rank), str(WORLD), name], env=environment, stdout=log, stderr=log)
            for rank, log in enumerate(logs)
        ]
        try:
            _wait(ranks, patience)
            found = [[_left(folder, n, rank) for rank in range(WORLD)] for n in range(len(plans))]
            ends = [
                f"did not finish in {patience:g} s" if (code := rank.poll()) is None else f"ended with exit code {code}"
                for rank in ranks
            ]
            words = [_last_line(log.name) for log in logs]
            lost = [f"rank {i} {end}{word}" for i, (end, word) in enumerate(zip(ends, words, strict=True))]
            return _to_the_first_failure(found, lost)
        finally:
            for rank, log in zip(ranks, logs, strict=True):
                rank.kill()
                rank.wait()
                log.close()


def _wait(ranks: Sequence[subprocess.Popen[bytes]], patience: float) -> None:
    """Until all processes have ended, or patience has."""
    deadline = time.monotonic() + patience
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(NAP)


def _to_the_first_failure(found: list[list[Taken | str | None]], lost: Sequence[str]) -> list[list[Taken | str]]:
    """What was found, up to the first course that failed; where a rank left nothing, what is said of lost ones."""
    whole = list[list[Taken | str]]()
    for ranks in found:
        told = [word if rank is None else rank for rank, word in zip(ranks, lost, strict=True)]
        whole.append(told)
        if any(isinstance(rank, str) for rank in told):
            break
    return whole


def _left(folder: Path, number: int, rank: int) -> Taken | str | None:
    """What a process left of a course; None if nothing."""
    path = folder / f"{number}-{rank}"
    if not path.exists():
        return None
    found: Taken | str = pickle.loads(path.read_bytes())
    return found


def _last_line(log: str) -> str:
    lines = [line for line in Path(log).read_text().splitlines() if line.strip()]
    return f", its last words: {lines[-1].strip()}" if lines else ""


def _check_importable(plans: Sequence[Course]) -> None:
    for course in plans:
        for thing in (course.solver, course.gradient):
            cls = type(thing)
            if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
                raise InputError(
                    f"the kit got {thing!r}, whose class {cls.__qualname__} another process cannot import from "
                    f"{cls.__module__}; define it at the top of a module of its own"
                )
