"""Station 1, the comparison: what is finished. A file for each cell, written whole or not at all, claimed by one alone.

`cells/NAME.json` is a cell that has ended, well or not; its name holds a digest of the configuration, so that with a
changed one it is another cell. `stale/` holds those of configurations that have changed since, `locks/` what tells
processes on the same folder from each other, `logs/` what each cell printed, `configs/` what each was trained with,
`runs/` its run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ..callbacks.writing import put
from ..errors import ConfigError
from .compare_plan import Cell, Entrant

__all__ = ["FAILED", "FINISHED", "Busy", "Record", "Store", "put"]

FINISHED, FAILED = "finished", "failed"
Record = dict[str, Any]
NEEDED = {"experiment": str, "options": str, "seed": int, "key": str, "status": str, "metrics": dict, "machine": dict}


class Busy(Exception):
    """Another process is at this cell."""


class Store:
    """The folder of a comparison. Several processes may share it: each cell is run by one of them.

    Args:
        folder: where it lies; made if it is not there.

    Raises:
        ConfigError: if it cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for part in ("cells", "stale", "locks", "logs", "configs", "runs"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            put(folder / "cells" / ".probe", "")
            (folder / "cells" / ".probe").unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--out {folder} cannot be written: {error.strerror or error}; choose another folder"
            ) from error

    def records(self) -> list[Record]:
        """All cells that have ended.

        Raises:
            ConfigError: for a file that is no cell.
        """
        found = (_read(path) for path in sorted((self.folder / "cells").glob("*.json")))
        return [record for record in found if record is not None]

    def record(self, cell: Cell) -> Record | None:
        """A cell that has ended; None for one that has not."""
        return _read(self._cell(cell))

    def arrange(self, entrants: Sequence[Entrant]) -> int:
        """Put aside cells of these experiments with other configurations, and take back what is right again.

        Returns how many were put aside.
        """
        current = {(entrant.experiment, entrant.options): entrant.key for entrant in entrants}
        aside = [r for r in self.records() if current.get((r["experiment"], r["options"]), r["key"]) != r["key"]]
        for record in aside:
            self._move(record["name"], "cells", "stale")
        for entrant in entrants:
            for path in (self.folder / "stale").glob(f"{entrant.name}-seed*.json"):
                self._move(path.stem, "stale", "cells")
        return len(aside)

    @contextmanager
    def claimed(self, cell: Cell, wait: bool) -> Iterator[None]:
        """Keep other processes from a cell; the claim ends with the process, however that ends.

        Raises:
            Busy: if another one has it, unless that is to be waited for.
        """
        lock = FileLock(self.folder / "locks" / f"{cell.name}.lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout as error:
            raise Busy from error
        try:
            yield
        finally:
            lock.release()

    def save(self, cell: Cell, record: Record) -> None:
        """Keep what became of a cell."""
        put(self._cell(cell), json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n")

    def config(self, cell: Cell) -> Path:
        """The file of a cell's configuration, as it was when the comparison began."""
        path = self.folder / "configs" / f"{cell.entrant.name}.yaml"
        put(path, yaml.safe_dump(dict(cell.entrant.config), sort_keys=False, allow_unicode=True))
        return path

    def log(self, cell: Cell) -> Path:
        """The file that takes what a cell prints."""
        return self.folder / "logs" / f"{cell.name}.txt"

    def _cell(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.json"

    def _move(self, name: str, source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # another process has moved it
            (self.folder / source / f"{name}.json").replace(self.folder / target / f"{name}.json")


def _read(path: Path) -> Record | None:
    """The cell in a file; None where there is none."""
    try:
        found = json.loads(path.read_text())
        fits = isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in NEEDED.items())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; delete it, and its cell is run again") from error
    if not fits or found["status"] not in (FINISHED, FAILED):
        raise ConfigError(f"{path} is no cell of a comparison; delete it, and its cell is run again")
    return {**found, "name": path.stem}
