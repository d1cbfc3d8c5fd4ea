"""Station: the measuring bench. Every claim of a solver's `info` has its measurement here, ours and anyone's."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..errors import ConformanceError
from ..solvers import Solver
from .accuracy import ACCURACY
from .claim import Claim, unmade
from .conduct import CONDUCT
from .finding import Finding, Measurement
from .methods import METHODS
from .noise_claims import NOISE
from .report import Report
from .sanity import nonsense
from .trial import converted

__all__ = ["MEASUREMENTS", "check_solver", "claims", "report"]


def claims(cls: type[Solver]) -> Iterator[Claim[Solver]]:
    """Every claim of every instance that `cls.examples()` returns; of one whose `info` cannot be meant, that alone."""
    for solver in cls.examples():
        meant, exact = not nonsense(solver), converted(solver, torch.float64)
        yield from (Claim(exact, cls, m) for m in MEASUREMENTS if m is INFO or (meant and m.made(solver)))


def report(cls: type[Solver]) -> Report:
    """Measure all claims of a solver class."""
    try:
        found = tuple(claims(cls))
    except Exception as error:  # a guest's `examples`, or what `__init__` asks for
        return unmade(cls, error)
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


INFO = Measurement("info", lambda solver: True, _info)

MEASUREMENTS = (INFO, *ACCURACY, *METHODS, *NOISE, *CONDUCT)
"""Everything that can be claimed."""
