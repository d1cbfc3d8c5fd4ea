"""Station 1, the command: the front door. Everything that ends a run ends here, with a line and an exit code.

0 done, 1 a fault, 2 a request that cannot be met, 4 the numbers diverged, 75 another rank is gone, 130 Ctrl-C,
138 SIGUSR1, 143 SIGTERM (128 + the signal's number).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from .. import __version__
from ..errors import ConfigError, ConformanceError, DeqlightError, OtherRank, SolverFailure, suggest
from .line import COMMANDS, RUNS, Line, read
from .watch import leave, rank

__all__ = ["guarded", "main"]

HOMES = {"plugins": "commands", "check": "commands"}
"""Where the commands are that have no module of their own name."""

OK, FAULT, USAGE, DIVERGED, INTERRUPTED = 0, 1, 2, 4, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process unless one is given; returns the exit code."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # lightning's calls, not our user's
    words = sys.argv[1:] if words is None else list(words)
    return guarded(lambda: _run(read(list(words))), "--debug" in words)


def guarded(work: Callable[[], int], debug: bool) -> int:
    """Do some work, and end in order whatever becomes of it: a line that says what, and the exit code."""
    return leave(_guarded(work, debug))


def _guarded(work: Callable[[], int], debug: bool) -> int:
    try:
        return work()
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, debug)
    except SystemExit as end:
        # Lightning turns Ctrl-C into exit code 1; what it turned is the context.
        return INTERRUPTED if isinstance(end.__context__, KeyboardInterrupt) else _code(end)
    except Exception as error:  # the last door: an unforeseen fault is told in a line as well
        return _fail(*_told(error), debug)


def _run(line: Line) -> int:
    if "version" in line.flags:
        return _print(f"deqlight {__version__}\n")
    if line.command is None:
        return _print(_help(None))
    if line.command not in COMMANDS:
        raise ConfigError(f"there is no command {line.command!r}; {suggest(line.command, COMMANDS)}")
    if "help" in line.flags or ("help_all" in line.flags and line.command not in RUNS):
        return _print(_help(line.command))
    if line.command in RUNS:
        from .start import start

        return start(line)
    # Imported when it is run, and each alone: most need torch, and which of lightning and rich comes first matters.
    module = import_module(f".{HOMES.get(line.command, line.command)}", __package__)
    command: Callable[[Line], int] = getattr(module, line.command)
    return command(line)


def _help(command: str | None) -> str:
    from .help import command_help, general_help

    return general_help() if command is None else command_help(command)


def _exit_code(error: DeqlightError) -> int:
    if isinstance(error, OtherRank):
        return DIVERGED if error.diverged else FAULT
    if isinstance(error, SolverFailure):
        return DIVERGED
    return FAULT if isinstance(error, ConformanceError) else USAGE


def _told(error: BaseException) -> tuple[str, int]:
    """The line to print and the exit code."""
    from .faults import told_by_us, translate

    ours = told_by_us(error)
    return translate(error) if ours is None else (f"error: {ours}", _exit_code(ours))


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else OK if end.code is None else FAULT


def _print(text: str) -> int:
    sys.stdout.write(text)
    return OK


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    here = rank()
    if here is not None:
        message = message.replace("error: ", f"error: on rank {here}: ", 1)
    sys.stderr.write(f"{message}\n")
    return code
