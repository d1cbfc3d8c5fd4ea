"""Station 1, the commands beside the trainer's: `plugins` and `check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError
from ..plugin.manager import host
from .line import Line

__all__ = ["check", "plugins"]

SOLVERS, GRADIENTS = CHECKED = "deqlight_solvers", "deqlight_gradients"
"""The hooks whose classes make claims that can be measured."""

COLOURS = {"active": "green", "failed": "red", "blocked": "yellow"}


def plugins(line: Line, console: Console | None = None) -> int:
    """Print a table of all plugins, and of those that could not be used why."""
    table = Table(title="plugins", title_justify="left")
    for column in ("name", "version", "hooks", "classes", "state"):
        table.add_column(column, no_wrap=column in ("name", "version", "hooks"), overflow="fold")
    for plugin in host(*map(Path, line.plugins)).plugins:
        state = f"[{COLOURS[plugin.state]}]{plugin.state}[/]{f': {plugin.reason}' if plugin.reason else ''}"
        hooks = "\n".join(hook.removeprefix("deqlight_") for hook in plugin.hooks)
        table.add_row(plugin.key, plugin.version, hooks, ", ".join(plugin.classes), state)
    (console or Console()).print(table)
    return 0


def check(line: Line, console: Console | None = None) -> int:
    """Measure what a solver, or a gradient rule, claims; 1 if a claim does not hold.

    Raises:
        ConfigError: without the name of one.
    """
    known = host(*map(Path, line.plugins))
    if len(line.rest) != 1:
        names = ", ".join(sorted(name for hook in CHECKED for name in known.classes(hook)))
        raise ConfigError(f"deqlight check takes the name of one solver, or of one gradient: {names}")
    (name,) = line.rest
    hook = known.hook_of(name, *CHECKED)
    from ..testing import Report, gradient_report, report

    measures: dict[str, Callable[[Any], Report]] = {SOLVERS: report, GRADIENTS: gradient_report}
    measured, screen = measures[hook](known.find(hook, name)), console or Console()
    for example in measured.examples():
        table = Table(title=Text(f"what {example.name} claims"), title_justify="left")
        for column in ("claim", "claimed", "measured", ""):
            table.add_column(column, no_wrap=column == "", overflow="fold")
        for row in example.rows:
            verdict = Text("ok", "green") if row.ok else Text("FAILS", "red")
            table.add_row(row.claim, Text(row.claimed), Text(row.measured), verdict)
        screen.print(table)
        for claims, why in example.reasons().items():
            screen.print(Text.assemble((claims, "bold red"), f": {why}\n"))
    held, made = sum(row.ok for row in measured.rows), len(measured.rows)
    screen.print(
        f"{measured.name}: {held} of {made} claims hold. docs/plugin/claims.md explains each.", highlight=False
    )
    return 0 if measured.ok else 1
