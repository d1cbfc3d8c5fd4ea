"""Station: the measuring bench, its table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

__all__ = ["Report", "Row"]


MENTIONED = 4
"""How many of the claims that fail for one reason are mentioned by name."""


@dataclass(frozen=True)
class Row:
    """One measurement of one claim.

    Attributes:
        example: the instance that was measured.
        claim: what is claimed, in a word.
        claimed: the claim's value.
        measured: what was found.
        ok: whether both agree.
        why: what the number means and what usually causes it, where they do not.
    """

    example: str
    claim: str
    claimed: str
    measured: str
    ok: bool
    why: str = ""


@dataclass(frozen=True)
class Report:
    """All measurements of a class.

    Attributes:
        name: the class.
        rows: the measurements.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether there are claims, and each holds."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def examples(self) -> list[Report]:
        """A report of each instance, by its own name."""
        return [Report(name, tuple(rows)) for name, rows in groupby(self.rows, lambda row: row.example)]

    def reasons(self) -> dict[str, str]:
        """Why claims fail: what is to be said, once, by the names of the claims that it is said of."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.ok:
                found.setdefault(row.why, []).append(row.claim)
        return {_listed(list(dict.fromkeys(names))): why for why, names in found.items()}

    def __str__(self) -> str:
        head = ("", "example", "claim", "claimed", "measured")
        lines = [head, *(("ok" if r.ok else "FAILS", r.example, r.claim, r.claimed, r.measured) for r in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        table = ["  ".join(f"{c:{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join((*table, *(f"{names}: {why}" for names, why in self.reasons().items())))


def _listed(names: list[str]) -> str:
    shown = "; ".join(names[:MENTIONED])
    more = len(names) - MENTIONED
    return f"{shown}; and {more} more" if more > 0 else shown
