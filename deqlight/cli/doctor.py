"""Station 1, the doctor: what a run would find on this machine, so that a cluster's faults are seen before a run is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError, suggest
from ..plugin.manager import host as load_host
from . import doctor_compile, doctor_machine, doctor_network
from .doctor_finding import BROKEN, NOTE, OK, Finding
from .line import Line

__all__ = ["doctor"]

OPTIONS = ("--runs", "--compile")
COLOURS = {OK: "green", NOTE: "yellow", BROKEN: "red"}
WIDTH = 132
"""Of the table, where the output is no terminal."""


def doctor(line: Line, console: Console | None = None) -> int:
    """Print what there is, and of what is not right why; 1 where something is broken.

    Raises:
        ConfigError: for an option that it does not have.
    """
    for option, _ in line.options():
        if option not in OPTIONS:
            raise ConfigError(f"deqlight doctor has no option {option}; {suggest(option, OPTIONS)}")
    screen = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(show_header=False)
    for column in ("what", "found", "state"):
        table.add_column(column, no_wrap=column == "state", overflow="fold")
    broken = 0
    for chapter, find in _chapters(line).items():
        table.add_section()
        for finding in _guarded(chapter, find):
            broken += finding.state == BROKEN
            told = Text(finding.found)  # in a str, rich would take [plots] for a colour
            if finding.remedy:
                told.append(f"\n{finding.remedy}", COLOURS[finding.state])
            table.add_row(finding.what, told, Text(finding.state, COLOURS[finding.state]))
    screen.print(table)
    screen.print(f"{broken} broken" if broken else "nothing is broken", highlight=False)
    return 1 if broken else 0


def _chapters(line: Line) -> dict[str, Callable[[], Iterator[Finding]]]:
    runs = Path(line.value("--runs") or "runs")
    chapters: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": doctor_machine.packages,
        "devices": doctor_machine.devices,
        "network": doctor_network.network,
        "folders": lambda: doctor_machine.folders(runs),
        "plugins": lambda: _plugins(line),
        "environment": doctor_network.environment,
    }
    if line.value("--compile") not in ("false", "no"):
        chapters["torch.compile"] = doctor_compile.compiles
    if line.configs or line.value("--ckpt_path"):
        chapters["graph breaks"] = lambda: doctor_compile.breaks(line)
    return chapters


def _guarded(chapter: str, find: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a chapter finds; that it could not even look is a finding as well."""
    try:
        yield from find()
    except ConfigError:
        raise
    except Exception as error:  # whatever is wrong with a machine, the other chapters are told
        yield Finding(chapter, f"{type(error).__name__}: {error}", BROKEN)


def _plugins(line: Line) -> Iterator[Finding]:
    for plugin in load_host(*map(Path, line.plugins)).plugins:
        states = {"active": OK, "blocked": NOTE, "failed": BROKEN}
        found = f"{plugin.key} {plugin.version}, {plugin.state}"
        yield Finding("plugin", found, states[plugin.state], plugin.reason)
