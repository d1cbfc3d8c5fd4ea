"""Station: the measuring bench, its verdicts. What a claim says, what was measured, and what that means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["EXACT", "Finding", "Measurement", "below", "close", "gap"]

T = TypeVar("T")
"""What is measured: a solver, or a gradient rule in its setting."""

EXACT = 1e-12
"""What float64 leaves of an identity after some hundred operations on numbers of size one."""


@dataclass(frozen=True)
class Finding:
    """What is claimed, what was measured, whether both agree, and if not, what that usually means."""

    claimed: str
    measured: str
    ok: bool
    why: str = ""


@dataclass(frozen=True)
class Measurement(Generic[T]):
    """A claim that solvers can make, or gradient rules.

    Attributes:
        name: the claim, in a word or two; `docs/plugin/claims.md` has a section of that name.
        made: whether a solver makes it.
        measure: measures it.
    """

    name: str
    made: Callable[[T], bool]
    measure: Callable[[T], Finding]


def close(claimed: float, measured: float, within: float, why: str) -> Finding:
    """Whether a number is what is claimed."""
    return Finding(f"{claimed} ± {within}", f"{measured:.2f}", abs(measured - claimed) <= within, why)


def below(bound: float, measured: float, why: str) -> Finding:
    """Whether a gap is closed; NaN is not."""
    return Finding(f"< {bound:.0e}", f"{measured:.1e}", measured < bound, why)


def gap(instrument: Callable[[T], float], bound: float, why: str) -> Callable[[T], Finding]:
    """A measurement of a gap that should be closed."""
    return lambda measured: below(bound, instrument(measured), why)
