"""One of two processes that train with each gradient rule. `python ddp_worker.py RANK WORLD PORT FOLDER`.

Rank 0 also trains alone with the samples of both, and writes the largest difference of the parameters after some steps.
"""

import copy
import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deqlight import ODETerm, SaveAt, solve
from deqlight.controllers import PID, Constant
from deqlight.gradients import Backsolve, Checkpoint, Direct, Implicit, Reversible
from deqlight.solvers import Dopri5, Heun, Leapfrog

SAMPLES, STEPS = 8, 3

OWN = PID(1e-6, 1e-8)
"""Each sample has its own clock: ranks take different numbers of steps, and a sample's do not depend on the rank."""

RULES = {
    "Direct": (Direct(), Dopri5(), OWN),
    "Checkpoint": (Checkpoint(), Dopri5(), OWN),
    "Checkpoint(2)": (Checkpoint(2), Dopri5(), OWN),
    "Checkpoint, fixed": (Checkpoint(3), Heun(), Constant(steps=7)),
    "Backsolve": (Backsolve(), Dopri5(), OWN),
    "Backsolve, fixed": (Backsolve(), Heun(), Constant(steps=7)),
    "Reversible": (Reversible(), Leapfrog(), Constant(steps=7)),
    "Implicit": (Implicit(1e-6, 1e-8), Dopri5(), PID(1e-10, 1e-12)),
}


class Field(nn.Module):
    """tanh(W y) b − y: the same layer twice, a parameter that is frozen."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3), requires_grad=False)
        self.again = self.linear

    def forward(self, t, y):
        return torch.tanh(self.again(torch.tanh(self.linear(y)))) * self.scale - y


class Net(nn.Module):
    """A layer, a solve, a layer."""

    def __init__(self, rule):
        super().__init__()
        self.before, self.after, self.term = nn.Linear(2, 3), nn.Linear(3, 1), ODETerm(Field())
        self.gradient, self.solver, self.controller = RULES[rule]

    def forward(self, x):
        final = isinstance(self.gradient, Implicit)
        options = {"solver": self.solver, "controller": self.controller, "gradient": self.gradient}
        ts = [0.0, 60.0] if final else [0.0, 0.5, 1.0]
        ys = solve(self.term, self.before(x), ts, saveat=SaveAt(final=final), **options).ys
        return self.after(ys.sum(0))


def trained(net, x):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(STEPS):
        optimizer.zero_grad()
        net(x * (1 + step)).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def difference(rule, rank, world):
    torch.manual_seed(0)
    net, x = Net(rule).double(), torch.linspace(-3, 3, 2 * SAMPLES).double().reshape(SAMPLES, 2)
    alone = trained(copy.deepcopy(net), x)
    mine = trained(DistributedDataParallel(net), x[rank * SAMPLES // world : (rank + 1) * SAMPLES // world])
    return max(float((a - b).abs().max()) for a, b in zip(mine, alone, strict=True))


def main(rank, world, port, folder):
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", store, timeout=timedelta(seconds=20), world_size=world, rank=rank)
    (folder / f"{rank}.json").write_text(json.dumps({rule: difference(rule, rank, world) for rule in RULES}))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
