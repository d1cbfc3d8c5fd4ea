"""Station 1, the commands that train nothing: `plugins` and `check`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from ..plugin.manager import host
from .line import Line

__all__ = ["check", "plugins"]

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
    """Measure what a solver claims; 1 if a claim does not hold.

    Raises:
        ConfigError: without the name of a solver.
    """
    known = host(*map(Path, line.plugins))
    if len(line.rest) != 1:
        names = ", ".join(sorted(known.classes("deqlight_solvers")))
        raise ConfigError(f"deqlight check takes the name of one solver: {names}")
    from ..testing import report

    measured = report(known.find("deqlight_solvers", line.rest[0]))
    table = Table(title=f"what {measured.name} claims", title_justify="left")
    for column in ("example", "claim", "claimed", "measured", ""):
        table.add_column(column, overflow="fold")
    for row in measured.rows:
        table.add_row(row.example, row.claim, row.claimed, row.measured, "[green]ok[/]" if row.ok else "[red]FAILS[/]")
    (console or Console()).print(table)
    return 0 if measured.ok else 1
