"""Station: the measuring bench. Every claim of a solver's `info` has its measurement here, ours and anyone's."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ConformanceError
from ..solvers import Solver
from .accuracy import ACCURACY
from .conduct import CONDUCT
from .finding import Finding, Measurement
from .methods import METHODS
from .report import Report, Row
from .sanity import nonsense
from .trial import converted

__all__ = ["MEASUREMENTS", "Claim", "check_solver", "claims", "report"]


@dataclass(frozen=True)
class Claim:
    """One claim of one instance of a solver, ready to be measured; printed as the name of a test."""

    solver: Solver
    measurement: Measurement

    @property
    def name(self) -> str:
        """The claim, in a word or two."""
        return self.measurement.name

    def row(self) -> Row:
        """Measure. An error raised by the solver is a finding, too."""
        try:
            found = self.measurement.measure(self.solver)
        except Exception as error:  # whatever a guest's code raises
            found = _raised(error, type(self.solver))
        return Row(repr(self.solver), self.name, found.claimed, found.measured, found.ok, found.why)

    def verify(self) -> None:
        """Measure, and raise `ConformanceError` if the claim does not hold."""
        row = self.row()
        if not row.ok:
            found = f"{row.example}: {row.claim} should be {row.claimed}, measured {row.measured}"
            raise ConformanceError(f"{found}. {row.why}")

    def __str__(self) -> str:
        return f"{self.solver!r}-{self.name}"


def claims(cls: type[Solver]) -> Iterator[Claim]:
    """Every claim of every instance that `cls.examples()` returns; of one whose `info` cannot be meant, that alone."""
    for solver in cls.examples():
        meant, exact = not nonsense(solver), converted(solver, torch.float64)
        yield from (Claim(exact, m) for m in MEASUREMENTS if m is INFO or (meant and m.made(solver)))


def report(cls: type[Solver]) -> Report:
    """Measure all claims of a solver class."""
    try:
        found = tuple(claims(cls))
    except Exception as error:  # a guest's `examples`, or what `__init__` asks for
        told = _raised(error, cls)
        why = f"{told.why} A class that cannot be made without arguments needs a classmethod `examples`."
        return Report(cls.__name__, (Row(cls.__name__, "examples", "instances", told.measured, False, why),))
    return Report(cls.__name__, tuple(claim.row() for claim in found))


def check_solver(cls: type[Solver]) -> Report:
    """Measure all claims of a solver class, on the instances that its `examples()` returns.

    Raises:
        ConformanceError: with the table of measurements, if a claim does not hold.

    >>> from deqlight.solvers import Heun
    >>> check_solver(Heun).ok
    True
    """
    found = report(cls)
    if not found.ok:
        raise ConformanceError(f"{cls.__name__} does not do what it claims\n{found}")
    return found


def _info(solver: Solver) -> Finding:
    wrong = nonsense(solver)
    return Finding("makes sense", "no" if wrong else "yes", not wrong, f"{wrong}.")


def _raised(error: Exception, cls: type[Solver]) -> Finding:
    """What an error tells, and the last line of the solver's own file on the way to it."""
    kind, text = type(error).__name__, " ".join(str(error).split()).rstrip(".")
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" in {Path(str(file)).name}, line {lines[-1]}" if lines else ""
    return Finding("no error", kind, False, f"The solver raised {kind}{place}: {text}.")


INFO = Measurement("info", lambda solver: True, _info)

MEASUREMENTS = (INFO, *ACCURACY, *METHODS, *CONDUCT)
"""Everything that can be claimed."""
