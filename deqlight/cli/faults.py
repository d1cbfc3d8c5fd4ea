"""Station 1, the command: faults of others, in our words where we know what they mean."""

from __future__ import annotations

import re

from ..errors import DeqlightError

__all__ = ["told_by_us", "translate"]

FAULT, USAGE = 1, 2
PEER = re.compile(r"Connection (closed|reset) by peer|Connection refused|pair closure")
MISFIT = re.compile(r"Error\(s\) in loading state_dict for (\w+):\s*(.*)", re.DOTALL)


def told_by_us(error: BaseException) -> DeqlightError | None:
    """What deqlight raised, itself or among the causes: the parser wraps what a constructor raises."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeqlightError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def translate(error: BaseException) -> tuple[str, int]:
    """The line to print for an exception that is not deqlight's, and the exit code."""
    text = str(error).strip()
    misfit = MISFIT.search(text)
    if misfit:
        told = " ".join(misfit[2].split())
        return (
            f"error: the checkpoint does not fit this network: {told[:300]}; give the options it was trained with",
            USAGE,
        )
    if PEER.search(text):
        return "error: another rank has ended; its own message says why", FAULT
    if type(error).__name__ == "MisconfigurationException":
        return f"error: {' '.join(text.split())}", USAGE
    first = text.splitlines()[0] if text else "no message"
    return f"error: {type(error).__name__}: {first} (--debug shows where)", FAULT
