"""Station 1, the ranks: torchrun's meet again after a restart, not the ghosts of the attempt before."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch.distributed

__all__ = ["agree", "meet"]

dist: Any = torch.distributed  # its stores are not in its types
PATIENCE = timedelta(minutes=30)  # torch's own
OFTEN = 0.02


def meet(strategy: Any, timeout: timedelta | None) -> None:
    """Connect the ranks that torchrun has started, under a name that no attempt before has had.

    The store in which they find each other is the agent's, and outlives them: torch leaves in it the addresses of the
    attempt before, and a rank that comes early takes those for its neighbours' (torch 2.x, gloo: "Connection refused",
    or a wait until the timeout). Lightning finds the connected group and uses it.

    Args:
        strategy: the trainer's; one without several processes is left alone.
        timeout: how long a rank waits for another.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or "_process_group_backend" not in vars(strategy):
        return
    if dist.is_initialized():
        return
    rank, world, patience = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timeout or PATIENCE
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*address, is_master=False, timeout=patience)
    name = agree(store, rank, world, patience)
    device = {} if strategy.root_device.type == "cpu" else {"device_id": strategy.root_device}
    dist.init_process_group(
        strategy._get_process_group_backend(),
        store=dist.PrefixStore(name, store),
        rank=rank,
        world_size=world,
        timeout=patience,
        **device,
    )


def agree(store: Any, rank: int, world: int, patience: timedelta) -> str:
    """A name that all living ranks have, and none that lived before.

    Each rank leaves a word of its own, and waits for the answer to that very word. The first rank answers whatever it
    finds, also the words of the dead, until each rank has said that it knows the name.
    """
    if rank:
        word = uuid.uuid4().hex
        store.set(f"deqlight/word/{rank}", word)
        store.wait([f"deqlight/answer/{word}"], patience)
        name = str(store.get(f"deqlight/answer/{word}"), "ascii")
        store.set(f"{name}/{rank}", "")
        return name
    name = f"deqlight/group/{uuid.uuid4().hex}"
    deadline = time.monotonic() + patience.total_seconds()
    missing = set(range(1, world))
    while missing:
        _answer(store, name, missing)
        missing = {other for other in missing if not store.check([f"{name}/{other}"])}
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"{world - len(missing)}/{world} clients joined")
        time.sleep(OFTEN)
    return name


def _answer(store: Any, name: str, ranks: Iterable[int]) -> None:
    for rank in ranks:
        if store.check([f"deqlight/word/{rank}"]):
            word = store.get(f"deqlight/word/{rank}").decode()
            store.set(f"deqlight/answer/{word}", name)
