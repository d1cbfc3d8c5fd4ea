"""Station 1, the trainer: what it is told of other ranks beyond Lightning's own options."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import lightning as L

from ..errors import ConfigError
from .meeting import meet

__all__ = ["settle"]

LIMIT = "_timeout"  # of all of Lightning's strategies for several processes
TOLD = "_broadcast_sigterm_tensor"  # of Lightning's epoch, since 2.6


def settle(trainer: L.Trainer, timeout: float | None) -> L.Trainer:
    """Leave signals to deqlight, and set how long a rank waits for another.

    Lightning's handlers speak to other ranks from within the handler, whatever those do at that moment; ranks then wait
    for each other until the timeout. `start` ends before and after the training, `Last` stops in it. Nor do ranks wait
    before each batch to be told by the first one what those handlers would have heard.

    Raises:
        ConfigError: for a timeout that is none, or a strategy that has no other ranks.
    """
    connector: Any = vars(trainer)["_signal_connector"]
    connector.register_signal_handlers = _nothing
    setattr(trainer.fit_loop.epoch_loop, TOLD, _nothing)
    strategy, limit = trainer.strategy, _limit(timeout)
    if limit is not None and LIMIT in vars(strategy):
        vars(strategy)[LIMIT] = limit
    elif limit is not None:
        raise ConfigError(
            f"--timeout {timeout:g} is for several processes; {type(strategy).__name__} has one: add "
            "--trainer.devices N --trainer.strategy ddp"
        )
    meet(strategy, vars(strategy).get(LIMIT))
    return trainer


def _limit(timeout: float | None) -> timedelta | None:
    if timeout is None:
        return None
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ConfigError(f"--timeout is {timeout}; it is how many seconds a rank waits for another, above 0")
    return timedelta(seconds=timeout)


def _nothing() -> None:
    """Registers no handler."""
