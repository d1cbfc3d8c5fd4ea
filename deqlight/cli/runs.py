"""Station 1, the run's folder: chosen once, by the first process, and told to those that it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError

__all__ = ["follows", "forget", "is_child", "next_folder", "shared"]

MARK = "DEQLIGHT_CHILD_"
"""Prefix of the environment variables through which a process tells the ones it starts what it decided."""

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Of these variables one is not 0 in every process but the first, whatever has started it."""

DECIDED = MARK + "BY"
"""The process that did."""


def next_folder(root: Path, name: str) -> Path:
    """A new folder `root/name/version_N`; two runs that start together get two folders.

    Raises:
        ConfigError: if it cannot be made.
    """
    base = root / name
    try:
        base.mkdir(parents=True, exist_ok=True)
        number = max((_number(path) for path in base.glob("version_*")), default=-1)
        while True:
            number += 1
            try:
                folder = base / f"version_{number}"
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise ConfigError(
            f"no run folder can be made in {base}: {error.strerror or error}; choose another place with --runs"
        ) from error


def is_child() -> bool:
    """Whether another deqlight process started this one as a further rank."""
    decided = os.environ.get(DECIDED, str(os.getpid())) != str(os.getpid())
    return decided and os.environ.get("LOCAL_RANK", "0") != "0"


def follows() -> bool:
    """Whether the first rank is another process, which torchrun, SLURM or a script has started, maybe elsewhere."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def forget() -> None:
    """Drop what an earlier command in this process decided."""
    if not is_child():
        for name in [name for name in os.environ if name.startswith(MARK)]:
            del os.environ[name]


def shared(what: str, decide: Callable[[], Path]) -> Path:
    """What the process that started this one decided under this name, or else what is decided now, for the next."""
    key = MARK + what.upper()
    if key not in os.environ:
        os.environ[key] = str(decide())
        os.environ.setdefault(DECIDED, str(os.getpid()))
    return Path(os.environ[key])


def _number(path: Path) -> int:
    tail = path.name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else -1
