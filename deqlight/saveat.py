"""Station: what to keep of a solve."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SaveAt"]


@dataclass(frozen=True)
class SaveAt:
    """Which states a `Solution` holds: those at all times `ts`, or the last alone.

    Args:
        final: keep the state at `ts[-1]` alone; then `ys` is `(1, batch, *state)` and earlier states are not held.
    """

    final: bool = False
