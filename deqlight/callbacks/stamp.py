"""Station: what runs beside the training. A run says where it came from, in its folder and in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

__all__ = ["STAMP", "ConfigStamp"]

STAMP = "deqlight"
"""The key in a checkpoint under which the stamp lies."""


class ConfigStamp(L.Callback):
    """Writes the resolved configuration to `config.yaml` and into each checkpoint, with the plugins and the version.

    The file is written by `fit` alone, and never over another: a different configuration in the same folder becomes
    `config-1.yaml`. The stamp holds plain values only, so that it can be read without running any code.

    Args:
        text: the configuration as YAML.
        config: the same as plain values.
        plugins: (name, version) of the active plugins.
        version: deqlight's own.
    """

    def __init__(self, text: str, config: Mapping[str, Any], plugins: Sequence[tuple[str, str]], version: str) -> None:
        self._text = text
        self._stamp = {"config": dict(config), "plugins": [list(pair) for pair in plugins], "version": version}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the file."""
        folder = trainer.log_dir  # asks all ranks: every rank must come here
        if stage == "fit" and trainer.is_global_zero and trainer.loggers and folder:
            write(Path(folder), self._text)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stamp the checkpoint."""
        checkpoint[STAMP] = self._stamp


def write(folder: Path, text: str) -> Path:
    """Write `config.yaml`, or the next free `config-N.yaml` where another configuration stands; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / "config.yaml", 0
    while path.exists() and path.read_text() != text:
        number += 1
        path = folder / f"config-{number}.yaml"
    path.write_text(text)
    return path
