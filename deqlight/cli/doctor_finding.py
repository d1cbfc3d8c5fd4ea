"""Station 1, the doctor: one thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BROKEN", "NOTE", "OK", "Finding"]

OK, NOTE, BROKEN = "ok", "note", "BROKEN"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, whether that is right, and what to do if it is not."""

    what: str
    found: str
    state: str = OK
    remedy: str = ""
