"""Station 1, the processes of one machine: none outlives another that failed, and each ends with a line and a code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

from . import runs

__all__ = ["LOST", "leave", "rank", "watch", "watch_parent"]

LOST = 75
"""Another rank is gone: to be tried again (EX_TEMPFAIL of sysexits.h)."""
GRACE = 5.0  # seconds to end in order, by what the connection says
OFTEN = 0.2

_started: list[subprocess.Popen[bytes]] = []


def watch(processes: list[subprocess.Popen[bytes]]) -> None:
    """Look after the ranks that this process has started, in place of Lightning's observer, which KILLs this one.

    Args:
        processes: the ranks from 1 on.
    """
    _started[:] = processes
    threading.Thread(target=_watch, args=(processes,), daemon=True).start()


def watch_parent() -> None:
    """In a rank that another one started: end soon after it, also where nothing else would tell."""
    if runs.is_child():
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def leave(code: int) -> int:
    """Give a code back; or end here with it, where ranks are connected that may be gone.

    To take the interpreter down in order would abort it, in the collective that is not finished.
    """
    if code:
        _end(_started)
        if rank() is not None:
            _exit(code)
    return code


def rank() -> int | None:
    """This process among those that are connected; None where none are."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return int(torch.distributed.get_rank())


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    while True:
        codes = [process.poll() for process in processes]
        if all(code == 0 for code in codes):
            return
        bad = [(number, code) for number, code in enumerate(codes, start=1) if code]
        if bad:
            break
        time.sleep(OFTEN)
    time.sleep(GRACE)  # by then this rank has met the closed connection, most often
    number, code = bad[0]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    sys.stderr.write(f"error: rank {number} {how}, so that this one stops; go on with --ckpt_path last\n")
    _end(processes)
    _exit(LOST)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(OFTEN)
    time.sleep(GRACE)
    sys.stderr.write("error: the process that started this rank is gone, so that it stops, too\n")
    _exit(LOST)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let processes end by themselves, and end those that do not."""
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
