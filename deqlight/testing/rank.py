"""Station: the measuring bench, one of two processes. `python -m deqlight.testing.rank RANK WORLD FOLDER`.

Trains what lies in the folder, together with the others, and leaves there what became of it.
"""

from __future__ import annotations

import pickle
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .courses import Course, Taken, trained

__all__ = ["main"]

TIMEOUT = timedelta(seconds=20)
"""How long a rank waits for the other."""


def main(rank: int, world: int, folder: Path) -> None:
    """Take one course after the other; end at the first that fails, for what follows it would wait for each other."""
    torch.set_num_threads(1)
    plans: list[Course] = pickle.loads((folder / "courses").read_bytes())
    dist.init_process_group("gloo", (folder / "meeting").as_uri(), timeout=TIMEOUT, world_size=world, rank=rank)
    for number, course in enumerate(plans):
        spread = partial(DistributedDataParallel, find_unused_parameters=course.spare)
        found: Taken | str
        try:
            found = trained(course, rank, world, spread)
        except Exception as error:  # whatever a guest's code raises
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        leave(found, folder / f"{number}-{rank}")
        if isinstance(found, str):
            break
    dist.destroy_process_group()


def leave(found: Taken | str, path: Path) -> None:
    """Write such that who sees the file sees all of it."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(pickle.dumps(found))
    draft.replace(path)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
