"""Station: the measuring bench. Expectations over the noise of one step, exact by Gauss and Hermite's quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..brownian import Increment, Path
from ..solvers import Solver
from ..states import leaves
from ..terms import SDETerm
from ..types import Tensor, Time

__all__ = ["Known", "stepped_over_noise"]

NODES = 12
"""Points of Gauss and Hermite's quadrature for each normal number: exact for polynomials up to degree 23."""


@dataclass(frozen=True)
class Known(Path):
    """What Brownian motion did over the one interval that is asked for."""

    found: Increment

    def increment(self, t0: Time, t1: Time) -> Increment:
        """That."""
        return self.found

    def rows(self, index: Tensor) -> Path:
        """That of some."""
        w, u, a = (None if part is None else leaves(part)[0][index] for part in self.found)
        return Known(Increment(w, u, a))  # type: ignore[arg-type]  # W is there


def stepped_over_noise(
    solver: Solver, term: SDETerm, t: float, h: float, *starts: float
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Where one step leads from each start, a number, at all points of the quadrature, `(points,)`; and the weights.

    The points are those of W and its time integral, two normal numbers; one Brownian motion has no Lévy area.
    """
    x, p = (torch.as_tensor(part, dtype=torch.float64) for part in np.polynomial.hermite_e.hermegauss(NODES))
    pairs, weights = torch.cartesian_prod(x, x), torch.cartesian_prod(p / p.sum(), p / p.sum()).prod(1)
    w = h**0.5 * pairs[:, :1]
    u = 0.5 * h * w + (h**3 / 12) ** 0.5 * pairs[:, 1:]
    fixed = term._replace(path=Known(Increment(w, u, torch.zeros_like(w)[..., None]))).over(t, t + h)
    ends = []
    for start in starts:
        y = torch.full_like(w, start)
        ends.append(leaves(solver.step(fixed, t, t + h, y, solver.init(fixed, t, t + h, y)).y)[0][:, 0])
    return tuple(ends), weights
