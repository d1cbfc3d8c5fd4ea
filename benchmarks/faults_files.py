"""Damaged checkpoints, and mistakes in words and files, for benchmarks/faults.py."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["DAMAGE", "MISTAKES", "TEXTS", "newest"]


def newest(folder: Path) -> Path | None:
    """The last checkpoint that was written, whole or not."""
    found = sorted(folder.glob("runs/*/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def last(folder: Path) -> Path:
    """The one of the run that is there."""
    return folder / "runs" / "resnet_digits" / "version_0" / "checkpoints" / "last.ckpt"


def truncate(folder: Path) -> None:
    """Half of it is there."""
    content = last(folder).read_bytes()
    last(folder).write_bytes(content[: len(content) // 2])


def flip(folder: Path) -> None:
    """One bit is another, in the middle of the weights."""
    content = bytearray(last(folder).read_bytes())
    content[len(content) // 2] ^= 1
    last(folder).write_bytes(content)


def both(folder: Path) -> None:
    """No checkpoint of the run is whole."""
    for path in last(folder).parent.iterdir():
        path.write_bytes(b"")


class Payload:
    """Runs code where it is unpickled without care."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        """Make a file."""
        return (Path.touch, (Path("ran"),))


def malicious(folder: Path) -> None:
    """Code is in it."""
    content = torch.load(last(folder), weights_only=True)
    torch.save({**content, "x": Payload()}, last(folder))


def a_pickle(folder: Path) -> None:
    """A bare pickle with code in it."""
    last(folder).write_bytes(pickle.dumps(Payload()))


DAMAGE: dict[str, tuple[Callable[[Path], None], int]] = {
    "is cut off": (truncate, 0),
    "is empty": (lambda folder: last(folder).write_bytes(b"") and None, 0),
    "has one wrong bit": (flip, 0),
    "has code in it": (malicious, 2),
    "is a pickle with code in it": (a_pickle, 0),
    "and best.ckpt are empty": (both, 2),
}
MISTAKES = {
    "a misspelt solver": "--model.net.solver=Heunn",
    "a text for a number": "--trainer.max_epochs=many",
    "--timeout=-1": "--timeout=-1",
    "--last.every_n_steps=0": "--last.every_n_steps=0",
}
TEXTS = {
    "no YAML": "a: [1\nb: 2",
    "a list": "- 1\n- 2",
    "YAML with a Python tag": 'x: !!python/object/apply:os.system ["touch ran"]',
}
