"""Stochastic equations that tests share, and the same in torchsde's words on the same Brownian path."""

from dataclasses import dataclass

import numpy as np
import torch
import torchsde
from torch import nn

from deqlight import SaveAt, SDETerm, solve
from deqlight.brownian import Grid, Increment, Increments, Path
from deqlight.solvers import SRK, LogODE
from deqlight.terms import Converted


class Drift(nn.Module):
    """Nonlinear, and a function of time."""

    def __init__(self, d):
        super().__init__()
        self.matrix = nn.Parameter(0.5 * torch.randn(d, d))

    def forward(self, t, y):
        return torch.sin(y @ self.matrix + t) - 0.3 * y


class Diffusion(nn.Module):
    """Of each kind of noise, what that kind allows: no more."""

    def __init__(self, d, noise, channels=None):
        super().__init__()
        self.noise, self.channels = noise, channels
        self.scale = nn.Parameter(0.3 + 0.2 * torch.rand(d))
        self.matrix = nn.Parameter(0.5 * torch.randn(d, d * (channels or 1)))

    def forward(self, t, y):
        if self.noise == "additive":
            flat = self.scale * (1 + t) + 0 * y
            return flat if self.channels is None else flat[..., None] * self.matrix[:, : self.channels]
        if self.noise == "diagonal":
            return self.scale * torch.cos(y + t)
        if self.noise == "scalar":
            return self.scale * torch.cos(y @ self.matrix + t)
        return 0.5 * torch.cos(y @ self.matrix + t).reshape(*y.shape, self.channels)


def equation(noise, calculus, brownian, d=3, channels=None):
    """A term of that noise."""
    channels = 2 if noise == "general" and channels is None else channels
    return SDETerm(
        Drift(d), Diffusion(d, noise, channels), noise=noise, calculus=calculus, brownian=brownian, channels=channels
    )


class Twin(nn.Module):
    """A term as torchsde has it: its diffusions are matrices, but for diagonal noise."""

    def __init__(self, term):
        super().__init__()
        self.term, self.noise_type, self.sde_type = term, term.noise, term.calculus

    def f(self, t, y):
        return self.term.drift(t, y)

    def g(self, t, y):
        g = self.term.diffusion(t, y)
        if self.term.channels is not None or self.noise_type == "diagonal":
            return g
        return g[..., None] if self.noise_type == "scalar" else torch.diag_embed(g)


class OurPath(torchsde.BaseBrownian):
    """A path of ours, asked as torchsde asks."""

    dtype, device, levy_area_approximation, shape = torch.float64, torch.device("cpu"), "foster", None

    def __init__(self, path, shape):
        self.path, self.shape = path, shape

    def __call__(self, ta, tb=None, return_U=False, return_A=False):
        found = self.path.increment(ta, tb)
        asked = [found.w.reshape(self.shape)]
        if return_U:
            asked.append(found.u.reshape(self.shape))
        if return_A:
            asked.append(found.a)
        return tuple(asked) if len(asked) > 1 else asked[0]

    def __repr__(self):
        return "OurPath"


def by_torchsde(term, y0, times, method, area, **options):
    """torchsde's solution at the end, in equal steps, on the path that the term draws for them."""
    path = term.drawn(y0, Grid(lambda: times, True), area).path
    channels = term.channels or (1 if term.noise == "scalar" else y0.shape[1])
    ends, dt = torch.tensor([times[0], times[-1]]), times[1] - times[0]
    bm = OurPath(path, (len(y0), channels))
    return torchsde.sdeint(Twin(term), y0, ends, bm=bm, method=method, dt=dt, options=options)[-1]


def even(steps, end=1.0):
    """The times of equal steps from 0."""
    return [end * k / steps for k in range(steps + 1)]


class Solved:
    """An equation with noise whose solution is known path by path: `term(brownian)`, `y0`, `at(t, w)`."""

    def __init__(self, noise, calculus, drift, diffusion, start, at):
        self.noise, self.calculus, self.drift, self.diffusion = noise, calculus, drift, diffusion
        self.start, self.at = start, at

    def term(self, brownian):
        channels = 2 if self.noise == "general" else None
        return SDETerm(
            self.drift,
            self.diffusion,
            noise=self.noise,
            calculus=self.calculus,
            brownian=brownian,
            channels=channels,
        )

    def y0(self, paths):
        return torch.tensor(self.start).expand(paths, -1).clone()


A, B = 0.7, torch.tensor([[0.5, 0.6], [-0.2, 0.3]], dtype=torch.float64)
"""Rates; B is not symmetric, so that its transpose is something else."""


def additive(calculus):
    """Nonlinear, with coefficients that depend on time; the solution is known by steps as fine as the path."""
    return Solved(
        "additive",
        calculus,
        lambda t, y: torch.sin(2 * y) + t,
        lambda t, y: (A + 0.5 * t) * torch.ones_like(y),
        [1.0, -0.5],
        None,
    )


def diagonal(calculus):
    """tan y = tan y0 + A W: a nonlinear diffusion of each number."""
    correction = A * A if calculus == "ito" else 0.0
    return Solved(
        "diagonal",
        calculus,
        lambda t, y: -correction * y.sin() * y.cos() ** 3,
        lambda t, y: A * y.cos() ** 2,
        [0.3, -0.8],
        lambda y0, t, w: torch.atan(A * w + y0.tan()),
    )


def scalar(calculus):
    """A linear equation whose one Brownian motion turns the plane."""
    drift = -0.4 * B + (0.5 * B @ B if calculus == "ito" else 0.0)

    def at(y0, t, w):
        flows = torch.linalg.matrix_exp((w[..., None] - 0.4 * t) * B)
        return torch.einsum("bij,bj->bi", flows, y0)

    return Solved("scalar", calculus, lambda t, y: y @ drift.mT, lambda t, y: y @ B.mT, [1.0, 0.5], at)


def general(calculus):
    """Two Brownian motions whose columns do not commute; the solution is known by steps as fine as the path."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.3]], dtype=torch.float64)

    def diffusion(t, y):
        first, second = 0.5 * torch.cos(y @ turn + t), 0.6 * torch.sin(y.flip(-1) + 0.3) + 0.2 * y
        return torch.stack([first, second], -1)

    return Solved("general", calculus, lambda t, y: -y, diffusion, [1.0, -0.5], None)


STEPS = (8, 16, 32, 64)
FINE = 1024


def exact(problem, y0, brownian):
    """The solutions at time 1: the known ones, or those of the finest steps."""
    if problem.at is None:
        term = problem.term(brownian)
        term = Converted(term) if (term.noise, term.calculus) == ("general", "ito") else term
        solver = SRK() if term.noise == "additive" else LogODE()
        return solve(term, y0, even(FINE), solver=solver, saveat=SaveAt(final=True)).y1
    path = problem.term(brownian).drawn(y0, Grid(lambda: even(1), True), 0).path
    return problem.at(y0, 1.0, path.increment(0.0, 1.0).w)


def errors(solver, problem, steps=STEPS, paths=400, seed=1):
    """The root mean square error at time 1, over one set of paths, for each number of steps."""
    y0, brownian = problem.y0(paths), Increments(base=even(FINE if problem.at is None else max(steps)), seed=seed)
    wanted = exact(problem, y0, brownian)
    found = [solve(problem.term(brownian), y0, even(n), solver=solver, saveat=SaveAt(final=True)).y1 for n in steps]
    return [float((y1 - wanted).square().mean().sqrt()) for y1 in found]


def slope(errors, steps=STEPS):
    """The order of convergence that errors show: the least squares line through their logarithms."""
    x, y = -torch.tensor(steps, dtype=torch.float64).log(), torch.tensor(errors, dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


@dataclass(frozen=True)
class Given(Path):
    """A path of which one interval is known, and asked for: for expectations by quadrature."""

    found: Increment

    def increment(self, t0, t1):
        return self.found

    def rows(self, index):
        raise NotImplementedError


def quadrature(h, nodes=10):
    """W and U over a step of length h at Gauss and Hermite's nodes `(nodes², 1)`, and their weights."""
    x, p = (torch.as_tensor(part, dtype=torch.float64) for part in np.polynomial.hermite_e.hermegauss(nodes))
    first, second = torch.cartesian_prod(x, x).unbind(1)
    weights = torch.cartesian_prod(p / p.sum(), p / p.sum()).prod(1)
    w = h**0.5 * first[:, None]
    return w, 0.5 * h * w + (h**3 / 12) ** 0.5 * second[:, None], weights


def expectations(solver, term, h, t=0.0):
    """Of one step from y = 1 and y = 0: E y₁ and E y₁², exact: coefficients (m1, m0, s2, s1, s0).

    The step is affine, y₁ = M y₀ + N with random M, N: E M, E N, E M², 2 E MN, E N².
    """
    w, u, weights = quadrature(h)
    stepping = term._replace(path=Given(Increment(w, u)))
    one, zero = (
        solver.step(stepping, t, t + h, y, solver.init(stepping, t, t + h, y)).y[:, 0]
        for y in (torch.ones_like(w), torch.zeros_like(w))
    )
    m, n = one - zero, zero
    return tuple(float((weights * x).sum()) for x in (m, n, m * m, 2 * m * n, n * n))


def moments(solver, term, steps, start=1.0):
    """E y and E y² at time 1 of a linear equation of one number, from `start`: no sampling error."""
    mean, second, h = start, start**2, 1.0 / steps
    for k in range(steps):
        m, n, mm, mn, nn = expectations(solver, term, h, k * h)
        mean, second = m * mean + n, mm * second + mn * mean + nn
    return mean, second
