"""Station: what runs beside the training. A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["put"]


def put(path: Path, text: str | bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
