"""One of two processes: measures samples together with the other. `python quality_worker.py RANK WORLD PORT FOLDER`.

Each rank adds its share; both write what they find to `quality-RANK.json`. The second one has no true samples.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from deqlight.metrics import MMD, FrechetDistance, PrecisionRecall, SlicedWasserstein

TIMEOUT = timedelta(seconds=20)


def metrics():
    return {
        "wasserstein": SlicedWasserstein(projections=16),
        "mmd": MMD(),
        "manifold": PrecisionRecall(),
        "frechet": FrechetDistance(3),
    }


def samples():
    """True ones and others, in batches; the same in every process."""
    generator = torch.Generator().manual_seed(0)
    real, other = (torch.randn(n, 3, generator=generator) for n in (101, 67))
    return real.split(20), (0.5 + other).split(10)


def measured(rank, world):
    """What a rank finds that has every other batch of the generated samples, and, as the first, all true ones."""
    found, (real, other) = {}, samples()
    for name, metric in metrics().items():
        for part in real if rank == 0 else ():
            metric.update(part, real=True)
        for part in other[rank::world]:
            metric.update(part, real=False)
        value = metric.compute()
        found[name] = [v.item() for v in (value.values() if isinstance(value, dict) else [value])]
    return found


def main(rank, world, port, folder):
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", store, timeout=TIMEOUT, world_size=world, rank=rank)
    (folder / f"quality-{rank}.json").write_text(json.dumps(measured(rank, world)))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
