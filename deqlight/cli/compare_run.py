"""Station 1, the comparison: a cell is run. In a process of its own, which takes nobody along if it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import __version__
from ..testing.timing import machine
from .compare_plan import Cell
from .compare_store import FAILED, FINISHED, Record, Store

__all__ = ["trained"]

PATIENCE = 15.0  # seconds for a process that is asked to end: Lightning finishes its batch and saves
LONGEST = 400
ERROR = "error: "


def trained(cell: Cell, store: Store) -> Record:
    """Train and test a cell; what came out, or why nothing did. An interruption ends its process, and goes on."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        result = Path(name) / "result.json"
        code = _run(_order(cell, store, result), store.log(cell))
        found: dict[str, Any] = json.loads(result.read_text()) if code == 0 and result.is_file() else {}
    if found:
        ended: dict[str, Any] = {"status": FINISHED}
    else:
        ended = {"status": FAILED, "reason": _reason(store.log(cell), code), "machine": machine()}
    entrant = cell.entrant
    return {
        "experiment": entrant.experiment,
        "options": entrant.options,
        "seed": cell.seed,
        "key": entrant.key,
        **ended,
        "exit code": code,
        "metrics": {},
        **found,
        "seconds": round(time.perf_counter() - started, 2),
        "log": str(store.log(cell)),
        "versions": {**entrant.versions, "deqlight": __version__},
    }


def _order(cell: Cell, store: Store, result: Path) -> dict[str, Any]:
    return {
        "config": str(store.config(cell)),
        "seed": cell.seed,
        "runs": str(store.folder / "runs"),
        "name": cell.name,
        "plugins": list(cell.entrant.plugins),
        "result": str(result),
    }


def _run(order: dict[str, Any], log: Path) -> int:
    """Start the process, wait for its end, and take it along where this one is interrupted; returns its exit code."""
    line = [sys.executable, "-m", "deqlight.cli.compare_cell", json.dumps(order)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait()
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                process.wait(PATIENCE)
                break
            except subprocess.TimeoutExpired:
                continue
    if process.stdin:
        process.stdin.close()


def _reason(log: Path, code: int) -> str:
    """One line about why a process failed: its own last word, or what ended it."""
    if code < 0:
        number = signal.Signals(-code)
        return f"ended by {number.name}{', as when memory runs out' if number == signal.SIGKILL else ''}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)] or lines
    return told[-1][:LONGEST] if told else "no word of why"
