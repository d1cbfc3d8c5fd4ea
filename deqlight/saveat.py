"""Station: what to keep of a solve."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SaveAt"]


@dataclass(frozen=True)
class SaveAt:
    """Which states a `Solution` holds: those at all times `ts`, or the last alone; and whether those between.

    Args:
        final: keep the state at the last of `ts` alone; then `ys` is `(1, batch, *state)`.
        dense: keep a polynomial for each step, so that `Solution.at(t)` gives the state at any time between; measured
            steps then do not stop at the inner times of `ts`, where the polynomials serve. Memory grows with the steps.
    """

    final: bool = False
    dense: bool = False
