"""One of two processes: trains nothing, compares gradients. `python worker.py RANK WORLD PORT FOLDER`.

For each network in the folder, with its data: the gradients of this process, averaged over the ranks by
DistributedDataParallel, and those of one process with all the samples; rank 0 writes the largest relative difference
to `differences.json`.
"""

import copy
import json
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from deqlight.brownian import Key, keyed
from deqlight.callbacks import PluginParity
from deqlight.data import Loader, Order, Start
from deqlight.errors import DeqlightError, PluginError
from deqlight.metrics import Mean
from deqlight.nets import Denoiser, DenoisingLoss
from deqlight.states import tree_map

TIMEOUT = timedelta(seconds=20)
SAMPLES = 8
STEPS = 2  # in the second one a hook that fired at the wrong time in the first shows


def double(tree):
    """All floating-point tensors in float64."""
    return tree_map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, tree)


class Through:
    """A denoiser whose calls go through DDP, which knows nothing of its other methods."""

    def __init__(self, net):
        inner = net.module if isinstance(net, DistributedDataParallel) else net
        self.schedule, self.target, self.gain, self.net = inner.schedule, inner.target, inner.gain, net
        self.told = inner.net.condition.classes is not None

    def __call__(self, *shown):
        return self.net(*shown)


def loss(net, batch):
    """Of the kind that the targets ask for: class numbers, courses or numbers; of a denoiser DDPM's."""
    inputs, targets, _ = double(batch)
    if isinstance(getattr(net, "module", net), Denoiser):
        through = Through(net)
        return DenoisingLoss()(through, inputs, targets if through.told else None).mean()
    if not targets.is_floating_point():
        return F.cross_entropy(net(inputs), targets)
    if isinstance(inputs, Start):
        return F.mse_loss(net(*inputs), targets.transpose(0, 1))
    return F.mse_loss(net(inputs), targets)


def gradients(net, batch):
    net.zero_grad()
    with keyed(Key(seed=0, ids=batch.ids)):  # noise of a sample, whichever rank it is on
        loss(net, batch).backward()
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


def difference(ours, theirs):
    """The largest difference, relative to the largest entry of all gradients."""
    scale = max(grad.abs().max() for grad in theirs)
    return max((a - b).abs().max() / scale for a, b in zip(ours, theirs, strict=True)).item()


def batches(dataset, rank, world):
    order = Order(torch.arange(SAMPLES * STEPS), SAMPLES // world, shuffle=True, seed=1, rank=rank, world=world)
    return list(Loader(dataset, order))


def compare(path, rank, world):
    """How much gradients differ; None where the network takes no such rule, in one process as in two."""
    net, dataset = torch.load(path, weights_only=False)
    parallel, alone = DistributedDataParallel(copy.deepcopy(net.double())), net
    found = []
    for mine, whole in zip(batches(dataset, rank, world), batches(dataset, 0, 1), strict=True):
        try:
            expected = gradients(alone, whole)
        except DeqlightError:
            return None
        found.append(difference(gradients(parallel, mine), expected))
    return max(found)


def odd_rank(rank, world):
    """What each rank says where rank 1 has another plugin."""
    manifest = [("deqlight:builtin", "1"), ("guest:guest", str(rank))]
    try:
        PluginParity(manifest).setup(SimpleNamespace(world_size=world), None, "fit")
    except PluginError as error:
        return str(error)
    return ""


def mean_over_ranks(rank):
    """The mean over both ranks of 1 (three samples) and 2 (four samples)."""
    mean = Mean()
    mean.update(rank + 1.0, rank + 3)
    return mean.compute().item()


def main(rank, world, port, folder):
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", store, timeout=TIMEOUT, world_size=world, rank=rank)
    result = {path.stem: compare(path, rank, world) for path in sorted(folder.glob("*.net"))}
    report = {"differences": result, "odd": odd_rank(rank, world), "mean": mean_over_ranks(rank)}
    (folder / f"report-{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
