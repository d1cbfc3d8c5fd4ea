"""Station 1, the command: faults of others, in our words where we know what they mean."""

from __future__ import annotations

import re

from ..errors import DeqlightError
from .watch import LOST

__all__ = ["told_by_us", "translate"]

FAULT, USAGE = 1, 2
PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe")
SILENT = re.compile(r"pair closure|Timed out waiting \d+ms for (recv|send)|Wait timeout")
TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
ALONE = re.compile(r"client socket has timed out|clients joined|Connection refused|failed to connect", re.IGNORECASE)
MISFIT = re.compile(r"Error\(s\) in loading state_dict for (\w+):\s*(.*)", re.DOTALL)
CONNECTION = (
    (
        TAKEN,
        "the port of the first rank is in use; give another one: MASTER_PORT=PORT, or torchrun --master-port",
        FAULT,
    ),
    (PEER, "another rank has ended; its own message says why; go on with --ckpt_path last", LOST),
    (SILENT, "another rank did not answer in time (--timeout SECONDS); go on with --ckpt_path last", LOST),
    (
        ALONE,
        "the ranks did not come together in time (--timeout SECONDS); are as many started as MASTER_ADDR's WORLD_SIZE "
        "says, and do they reach MASTER_ADDR and MASTER_PORT?",
        LOST,
    ),
)
"""What torch says of lost connections, in our words, and the exit code."""


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
    for pattern, line, code in CONNECTION:
        if pattern.search(text):
            return f"error: {line}", code
    if type(error).__name__ == "MisconfigurationException":
        return f"error: {' '.join(text.split())}", USAGE
    first = text.splitlines()[0] if text else "no message"
    return f"error: {type(error).__name__}: {first} (--debug shows where)", FAULT
