"""Station: the measuring bench. Stochastic equations, one for each kind of noise, in either calculus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..brownian import Brownian, Grid, Increment, Path
from ..saveat import SaveAt
from ..solvers import SRK, LogODE, Solver, SolverInfo
from ..solving import solve
from ..states import each, leaves
from ..terms import SDETerm, Term
from ..types import Calculus, Noise, State, Tensor, Time

__all__ = ["Equation", "equations", "exact_end", "quiet"]


@dataclass(frozen=True)
class Equation:
    """A stochastic equation on [0, 1] whose paths are known, in closed form or by steps as fine as the path.

    Attributes:
        noise: its kind of noise.
        drift: f(t, y), in Stratonovich's sense.
        diffusion: g(t, y).
        correction: Itô's drift less Stratonovich's, ½ Σ ∂g g; None where it is zero.
        start: where all paths begin, `(numbers,)`.
        end: the end from the starts `(paths, numbers)` and W(1); None where it has no closed form.
        channels: how many Brownian motions a path has, for a diffusion that is a matrix.
    """

    noise: Noise
    drift: Callable[[Time, Tensor], Tensor]
    diffusion: Callable[[Time, Tensor], Tensor]
    correction: Callable[[Time, Tensor], Tensor] | None
    start: tuple[float, ...]
    end: Callable[[Tensor, Tensor], Tensor] | None = None
    channels: int | None = None

    def term(self, calculus: Calculus, brownian: Brownian) -> SDETerm:
        """The equation as it is written in this calculus; its paths are the same in both."""
        drift, correction = self.drift, self.correction
        if calculus == "ito" and correction is not None:
            drift = _sum(drift, correction)
        return SDETerm(
            drift,  # type: ignore[arg-type]  # of one tensor
            self.diffusion,  # type: ignore[arg-type]
            noise=self.noise,
            calculus=calculus,
            brownian=brownian,
            channels=self.channels,
        )

    def starts(self, paths: int) -> Tensor:
        """So many starts, `(paths, numbers)`."""
        return torch.tensor(self.start, dtype=torch.float64).expand(paths, -1).clone()


def _sum(f: Callable[[Time, Tensor], Tensor], g: Callable[[Time, Tensor], Tensor]) -> Callable[[Time, Tensor], Tensor]:
    return lambda t, y: f(t, y) + g(t, y)


def _seconds(t: Time, y: Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=y.dtype)


RATE = 0.7
SPIN = ((0.5, 0.6), (-0.2, 0.3))
"""A matrix that is not symmetric, so that its transpose is something else."""


def _additive() -> Equation:
    """For each number, dy = ½ (sin 2y + t) dt + (1 + t/2) dW."""
    return Equation(
        "additive",
        lambda t, y: 0.5 * (torch.sin(2 * y) + _seconds(t, y)),
        lambda t, y: (1 + 0.5 * _seconds(t, y)) * torch.ones_like(y),
        None,
        (1.0, -0.5),
    )


def _diagonal() -> Equation:
    """For each number, y = atan(c W + t²/4 + tan y₀): cos² y (t/2 dt + c ∘dW)."""
    return Equation(
        "diagonal",
        lambda t, y: 0.5 * _seconds(t, y) * y.cos().square(),
        lambda t, y: RATE * y.cos().square(),
        lambda t, y: -RATE * RATE * y.sin() * y.cos() ** 3,
        (0.3, -0.8),
        lambda y0, w: torch.atan(RATE * w + 0.25 + y0.tan()),
    )


def _scalar() -> Equation:
    """The state y = exp(S (W − t²/4)) y₀: one Brownian motion turns and stretches the plane."""
    s = torch.tensor(SPIN, dtype=torch.float64)
    return Equation(
        "scalar",
        lambda t, y: -0.5 * _seconds(t, y) * (y @ s.mT),
        lambda t, y: y @ s.mT,
        lambda t, y: 0.5 * (y @ (s @ s).mT),
        (1.0, 0.5),
        lambda y0, w: (torch.linalg.matrix_exp((w[..., None] - 0.25) * s) @ y0[..., None])[..., 0],
    )


def _general() -> Equation:
    """A plane, dy = −y/4 dt + A y ∘dW₁ + (B y + c(t)) ∘dW₂, whose two fields do not commute."""
    a = torch.tensor(((0.0, 0.8), (-0.5, 0.1)), dtype=torch.float64)
    b = torch.tensor(((0.6, 0.2), (0.1, -0.5)), dtype=torch.float64)

    def second(t: Time, y: Tensor) -> Tensor:
        return y @ b.mT + 0.5 * torch.cos(_seconds(t, y))

    return Equation(
        "general",
        lambda t, y: -0.25 * y,
        lambda t, y: torch.stack([y @ a.mT, second(t, y)], -1),
        lambda t, y: 0.5 * (y @ (a @ a).mT + second(t, y) @ b.mT),
        (1.0, -0.5),
        channels=2,
    )


equations: Mapping[Noise, Equation] = {
    "additive": _additive(),
    "diagonal": _diagonal(),
    "scalar": _scalar(),
    "general": _general(),
}
"""One for each kind of noise. What depends on time depends on it in the drift, the diffusion, or both."""


def exact_end(equation: Equation, brownian: Brownian, y0: Tensor, grid: tuple[float, ...]) -> Tensor:
    """The paths' ends: the known ones, or those of steps as fine as the grid that the path is known on."""
    term = equation.term("ito" if equation.noise == "additive" else "stratonovich", brownian)
    if equation.end is None:
        solver: Solver = SRK() if equation.noise == "additive" else LogODE()
        end = solve(term, y0, grid, solver=solver, saveat=SaveAt(final=True), max_steps=len(grid)).y1
        return leaves(end)[0]
    path = brownian.draw(term.noise_like(y0), Grid(lambda: grid, True), 0)
    return equation.end(y0, leaves(path.increment(grid[0], grid[-1]).w)[0])


@dataclass(frozen=True)
class _Quiet(Path):
    """No motion, for each sample."""

    like: State

    def increment(self, t0: Time, t1: Time) -> Increment:
        """Zero."""
        return Increment(self.like, self.like, leaves(self.like)[0][..., None])

    def rows(self, index: Tensor) -> Path:
        """Zero for fewer."""
        return _Quiet(each(lambda leaf: leaf[index], self.like))


def quiet(term: Term, info: SolverInfo, y0: State) -> Term:
    """An ordinary term as a stochastic one for a solver that takes no other: its noise is zero."""
    general = "diagonal" not in info.strong_order
    leaf = leaves(y0)[0]
    zero = leaf.new_zeros(len(leaf), 1) if general else each(torch.zeros_like, y0)
    noisy = SDETerm(
        term,
        _no_column if general else _nothing,
        noise="general" if general else "diagonal",
        calculus=info.calculus or "ito",
        channels=1 if general else None,
    )
    return noisy._replace(path=_Quiet(zero))


def _nothing(t: Time, y: State) -> State:
    return each(torch.zeros_like, y)


def _no_column(t: Time, y: State) -> State:
    return each(lambda leaf: torch.zeros_like(leaf)[..., None], y)
