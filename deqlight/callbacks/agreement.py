"""Station: what runs beside the training. Ranks tell each other, from CPU to CPU, whether one of them has failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed as dist

__all__ = ["Agreement", "of_all_ranks"]

T = TypeVar("T")
LONGEST = timedelta(seconds=60)
"""How long a rank that failed waits for the others, who may be in a long solve; then it ends, and so do they."""


class Agreement:
    """One bit from every rank, between two batches' parts where all ranks come by.

    The ranks meet in a group of their own, over gloo: nothing waits for a device, and a message cannot be taken for a
    part of a gradient. A process alone agrees with itself.

    Args:
        world: how many ranks there are.
        timeout: how long one waits for another that has not failed; None is torch's own.
    """

    def __init__(self, world: int, timeout: timedelta | None = None) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=timeout) if world > 1 else None

    @classmethod
    def of(cls, trainer: L.Trainer) -> Agreement:
        """Among a trainer's ranks, with the strategy's own limit. All must call it, in the same order."""
        return cls(trainer.world_size, vars(trainer.strategy).get("_timeout"))

    def any(self, mine: bool) -> bool:
        """Whether it is so on any rank. All must call it; one that has failed does not wait for ever."""
        return self.ask(lambda: mine, LONGEST if mine else None)()

    def ask(self, mine: Callable[[], bool], longest: timedelta | None = None) -> Callable[[], bool]:
        """Ask whether it is so on any rank, and go on; the answer waits for all. All must call both, in the same order.

        A process alone looks when it answers.
        """
        if self._group is None:
            return mine
        flag = torch.tensor(float(mine()))
        work = dist.all_reduce(flag, group=self._group, async_op=True)

        def answer() -> bool:
            if work is not None:
                work.wait(longest) if longest else work.wait()
            return bool(flag > 0)

        return answer

    def told(self, mine: T) -> list[T]:
        """What every rank has to say; after `any` alone, when all know that it is worth it."""
        return [mine] if self._group is None else of_all_ranks(mine, dist.get_world_size(), self._group)

    def end(self) -> None:
        """Leave the group."""
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
        self._group = None


def of_all_ranks(mine: T, world: int, group: Any = None) -> list[T]:
    """A value from every rank, in order."""
    if world < 2:
        return [mine]
    gathered: list[Any] = [None] * world
    dist.all_gather_object(gathered, mine, group=group)
    return gathered
