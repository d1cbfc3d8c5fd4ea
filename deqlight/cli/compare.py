"""Station 1, the comparison: experiments and seeds are trained and tested, one cell after the other, into one table."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import lightning  # noqa: F401  before rich: the `Union[int, float]` of its options is else read as `Union[float, int]`
from rich.console import Console
from rich.text import Text

from ..errors import ConfigError
from .compare_picture import draw
from .compare_plan import Cell, Plan
from .compare_rows import metric_of, rows
from .compare_run import trained
from .compare_store import FAILED, FINISHED, Busy, Record, Store
from .compare_table import failures, machines, notes, screen_table, write
from .line import Line

__all__ = ["compare"]

WIDTH = 132
"""Of the table, where the output is no terminal."""


def compare(line: Line, console: Console | None = None) -> int:
    """Run every cell that has not ended yet, and write the table; 1 if a cell failed.

    Raises:
        DeqlightError: for whatever is wrong with the request.
    """
    screen = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    plan = Plan(line)
    store = Store(plan.out)
    aside = store.arrange(plan.entrants)
    if aside:
        _say(screen, f"{aside} of changed configurations put aside, in {plan.out / 'stale'}")
    try:
        if not plan.draw:
            with _ended_in_order():
                _Work(plan, store, screen).run()
    finally:
        _finish(store, screen)
    return _code(plan, store, screen)


class _Work:
    """Runs what is missing.

    Args:
        plan: what is asked for.
        store: what is there.
        screen: where it is told.
    """

    def __init__(self, plan: Plan, store: Store, screen: Console) -> None:
        self.plan, self.store, self.screen, self.cells = plan, store, screen, plan.cells

    def run(self) -> None:
        """Each cell that is wanted; first what nobody else is at, then what others have begun."""
        wanted = [(number, cell) for number, cell in enumerate(self.cells, 1) if self._wants(cell)]
        kept = len(self.cells) - len(wanted)
        if kept:
            _say(self.screen, f"{kept} of {len(self.cells)} are there from before")
        for wait in (False, True):
            wanted = [(number, cell) for number, cell in wanted if not self._done(number, cell, wait)]

    def _wants(self, cell: Cell) -> bool:
        record = self.store.record(cell)
        return record is None or (self.plan.retry and record["status"] == FAILED)

    def _done(self, number: int, cell: Cell, wait: bool) -> bool:
        """Run a cell, unless another process is at it."""
        place = f"{number} of {len(self.cells)}: {cell}"
        try:
            with self.store.claimed(cell, wait):
                if self._wants(cell):
                    self._run(cell, place)
                else:
                    _say(self.screen, f"{place}: run by another process")
        except Busy:
            _say(self.screen, f"{place}: another process is at it")
            return False
        return True

    def _run(self, cell: Cell, place: str) -> None:
        if not self.screen.is_terminal:
            _say(self.screen, f"{place}: training, told in {self.store.log(cell)}")
        with self.screen.status(Text(f"{place}: training, told in {self.store.log(cell)}")):
            record = trained(cell, self.store)
        self.store.save(cell, record)
        found = self.store.records()
        write(self.store.folder, rows(found), found)
        _say(self.screen, Text.assemble(f"{place}: ", _outcome(record)))


def _outcome(record: Record) -> Text:
    if record["status"] == FAILED:
        return Text(f"failed, exit code {record['exit code']}: {record['reason']}", "red")
    (row,) = rows([record])
    score = "no metric of the test" if row.metric is None else f"{row.metric} {metric_of(row.metric).of(record):.4g}"
    return Text(f"{score}, {record['seconds']:.0f} s")


def _finish(store: Store, screen: Console) -> None:
    """Show and write what there is; it may be all, or what an interruption left."""
    found = store.records()
    if not found:
        return
    table = rows(found)
    screen.print(screen_table(table))
    for note in (*notes(table), *machines(found)):
        screen.print(Text(note, "dim"))
    for told in failures(table):
        screen.print(told)
    write(store.folder, table, found)
    try:
        draw(store.folder / "table.png", table)
    except ConfigError as error:
        _say(screen, str(error))
    _say(screen, f"written to {store.folder}")


def _code(plan: Plan, store: Store, screen: Console) -> int:
    """1 where a cell failed, of those that the line names, or of all if it names none."""
    own = [store.record(cell) for cell in plan.cells] if plan.entrants else store.records()
    if not own:
        raise ConfigError(f"there is nothing to draw in {plan.out}: no cell has ended there")
    missing, failed = sum(one is None for one in own), sum(one is not None and one["status"] != FINISHED for one in own)
    if missing:
        _say(screen, f"{missing} of {len(own)} have not been run")
    if failed:
        _say(screen, Text(f"{failed} of {len(own)} failed; --retry runs them again", "red"))
    return 1 if failed else 0


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A scheduler's SIGTERM, or a lost terminal, ends the cell's process as well."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]  # nohup's wish
    before = {number: signal.signal(number, _terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _say(screen: Console, text: str | Text) -> None:
    screen.print(text, highlight=False, markup=False, soft_wrap=True)
