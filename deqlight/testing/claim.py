"""Station: the measuring bench, one claim of one instance, ready to be measured."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from ..errors import ConformanceError
from .finding import Finding, Measurement, T
from .report import Report, Row

__all__ = ["Claim", "raised", "unmade"]


@dataclass(frozen=True)
class Claim(Generic[T]):
    """One claim of one instance of a solver, or of a gradient rule, ready to be measured; printed as a test's name.

    Attributes:
        subject: what is measured.
        cls: the class whose claim it is.
        measurement: how it is measured.
    """

    subject: T
    cls: type
    measurement: Measurement[T]

    @property
    def name(self) -> str:
        """The claim, in a word or two."""
        return self.measurement.name

    def row(self) -> Row:
        """Measure. An error raised by what is measured is a finding, too."""
        try:
            found = self.measurement.measure(self.subject)
        except Exception as error:  # whatever a guest's code raises
            found = raised(error, self.cls)
        return Row(repr(self.subject), self.name, found.claimed, found.measured, found.ok, found.why)

    def verify(self) -> None:
        """Measure, and raise `ConformanceError` if the claim does not hold."""
        row = self.row()
        if not row.ok:
            found = f"{row.example}: {row.claim} should be {row.claimed}, measured {row.measured}"
            raise ConformanceError(f"{found}. {row.why}")

    def __str__(self) -> str:
        return f"{self.subject!r}-{self.name}"


def raised(error: Exception, cls: type) -> Finding:
    """What an error tells, and the last line of the class's own file on the way to it."""
    kind, text = type(error).__name__, " ".join(str(error).split()).rstrip(".")
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" in {Path(str(file)).name}, line {lines[-1]}" if lines else ""
    return Finding("no error", kind, False, f"{cls.__name__} raised {kind}{place}: {text}.")


def unmade(cls: type, error: Exception) -> Report:
    """The report of a class of which no instance could be made."""
    told = raised(error, cls)
    why = f"{told.why} A class that cannot be made without arguments needs a classmethod `examples`."
    return Report(cls.__name__, (Row(cls.__name__, "examples", "instances", told.measured, False, why),))
