"""Where sampling leads, exactly: a set of mixtures side by side, the noise they begin at, and errors at the end."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deqlight import SaveAt, solve
from deqlight.controllers import PID
from deqlight.gaussians import GaussianMixture, mixtures
from deqlight.schedules import Schedule
from deqlight.solvers import Dopri8, Solver
from deqlight.terms import Denoising

SAMPLES = 64
"""Of each mixture."""

EXACT = PID(1e-10, 1e-10, norm="joint")
"""How the reference is solved: far below all errors that are shown."""

NFES = (5, 10, 20, 50)


@dataclass
class Flows:
    """The flows of a set of mixtures in one state `(samples, all dimensions)`, so that a solver steps all at once.

    Args:
        seed: which mixtures: `CHOOSING` or `REPORTING`.
    """

    seed: int
    targets: tuple[GaussianMixture, ...] = field(init=False)
    noise: Tensor = field(init=False)
    known: dict[tuple[str, str], Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.targets = mixtures(self.seed)
        self.sizes = [len(target.mean) for target in self.targets]
        rng = torch.Generator().manual_seed(self.seed)
        self.noise = torch.randn(SAMPLES, sum(self.sizes), generator=rng, dtype=torch.float64)

    def eps(self, rho: float, y: Tensor) -> Tensor:
        """The expected noise, each mixture's in its own columns."""
        parts = zip(self.targets, y.split(self.sizes, 1), strict=True)
        return torch.cat([target.eps(rho, part) for target, part in parts], 1)

    def start(self, rho: float) -> Tensor:
        """What x of N(0, 1) is in y at this level."""
        return self.noise * math.sqrt(1 + rho * rho)

    def truth(self, start: float, end: float) -> Tensor:
        """Where the flow leads from the noise at the level `start`, at the level `end`, which may be 0."""
        key = f"{start:.6g}", f"{end:.6g}"
        if key not in self.known:
            self.known[key] = self.solved(Dopri8(), [start, end], EXACT)
        return self.known[key]

    def solved(
        self, solver: Solver, rhos: list[float], controller: PID | None = None, schedule: Schedule | None = None
    ) -> Tensor:
        """The end of a solve over these levels."""
        with torch.no_grad():
            term, y0 = Denoising(self.eps, schedule), self.start(rhos[0])
            last = SaveAt(final=True)
            return solve(term, y0, rhos, solver=solver, controller=controller, saveat=last, max_steps=100_000).y1

    def errors(self, y: Tensor, start: float, end: float) -> list[float]:
        """The root mean square error over the samples of each mixture, whose standard deviation is 1."""
        gaps = (y - self.truth(start, end)).split(self.sizes, 1)
        return [float(gap.square().mean().sqrt()) for gap in gaps]


@functools.cache
def flows(seed: int) -> Flows:
    """Those of a seed, with what has been solved of them."""
    return Flows(seed)


def geometric(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(math.log(max(value, 1e-300)) if value == value else math.inf for value in values) / len(values))
