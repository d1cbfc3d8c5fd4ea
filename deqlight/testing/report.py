"""Station: the measuring bench, its table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Report", "Row"]


@dataclass(frozen=True)
class Row:
    """One measurement of one claim.

    Attributes:
        example: the instance that was measured.
        claim: what is claimed, in a word.
        claimed: the claim's value.
        measured: what was found.
        ok: whether both agree.
    """

    example: str
    claim: str
    claimed: str
    measured: str
    ok: bool


@dataclass(frozen=True)
class Report:
    """All measurements of a solver class.

    Attributes:
        name: the class.
        rows: the measurements.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether every claim holds."""
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        head = ("", "solver", "claim", "claimed", "measured")
        lines = [head, *(("ok" if r.ok else "FAILS", r.example, r.claim, r.claimed, r.measured) for r in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        return "\n".join(
            "  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )
