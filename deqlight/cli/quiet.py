"""Station 1, the experiment: keep quiet what tells the user nothing. Each silence has its reason."""

from __future__ import annotations

import logging
import warnings

__all__ = ["hush"]

LINES = (
    "💡 Tip",  # advertising
    "TPU available",
    "HPU available",
    "`weights_only` was not set",  # about saving; harmless
    "The following callbacks returned in `LightningModule.configure_callbacks`",
)
WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # between lightning and torch
    r".*`instantiate_classes`.*",  # between lightning and jsonargparse
    r".*Experiment logs directory .* exists and is not empty.*",  # two loggers share our folder, on purpose
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*ModelCheckpoint.*dirpath has changed.*",
    r".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint.*",  # an evaluation needs none
    r".*recommended to use `self\.log\('(train|val|test|nfe)/.*sync_dist.*",  # Classify has synced them
    r".*using the WeightAveraging callback, but loading a checkpoint outside.*",  # the file's weights are the averaged
    r".*Couldn't infer the batch indices.*",  # every prediction carries its id
)


class _Lines(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(LINES)


def hush() -> None:
    """Filter Lightning's log and warnings; calling it again changes nothing."""
    for handler in logging.getLogger("lightning.pytorch").handlers:
        if not any(isinstance(f, _Lines) for f in handler.filters):
            handler.addFilter(_Lines())
    for pattern in WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)
