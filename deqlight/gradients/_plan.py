"""Station: the way back, its plan. Which states to hold, so that the least of a solve is taken again."""

from __future__ import annotations

from math import comb

__all__ = ["cost", "planned", "split"]


def split(pieces: int, slots: int) -> int:
    """How many pieces to go on before the next state is held, of at least two that lie before the end.

    The optimal choice for `slots` states, that at the start among them: then the rest is undone with one state less,
    and these pieces with all of them.

    Reference: Griewank & Walther, Algorithm 799: Revolve, ACM Trans. Math. Softw. 26 (2000).
    """
    if slots == 1:
        return pieces - 1
    r = _repeats(pieces, slots)
    return min(_reach(slots, r - 1), pieces - _reach(slots - 1, r - 1))


def cost(pieces: int, slots: int) -> int:
    """How many pieces are gone over again before all are undone, besides the pass with a graph that each needs."""
    r = _repeats(pieces, slots)
    return r * pieces - (comb(slots + r, r - 1) if r else 0)


def planned(steps: int, budget: int) -> tuple[int, list[int]]:
    """The length of a piece for a solve of so many steps, and the steps before which states are held.

    A piece is one step where the budget holds a state for each, else as long as it must be, at most `budget` steps.
    """
    length = min(budget, max(1, -(-steps // budget)))
    places, at, slots = [], 0, budget
    while slots > 1 and steps - at > length:
        at += length * split(-(-(steps - at) // length), slots)
        places.append(at)
        slots -= 1
    return length, places


def _reach(slots: int, repeats: int) -> int:
    """The most pieces that so many states can undo with each gone over so often at most."""
    return comb(slots + repeats, slots)


def _repeats(pieces: int, slots: int) -> int:
    """How often a piece is gone over at most."""
    r = 0
    while _reach(slots, r) < pieces:
        r += 1
    return r
