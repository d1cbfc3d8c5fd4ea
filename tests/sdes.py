"""Stochastic equations that tests share, and the same in torchsde's words on the same Brownian path."""

import torch
import torchsde
from torch import nn

from deqlight import SDETerm
from deqlight.brownian import Grid, Increments


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
            return flat if self.channels is None else flat[..., None] * self.matrix.reshape(-1, self.channels)
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

    dtype, device, levy_area_approximation = torch.float64, torch.device("cpu"), "foster"

    def __init__(self, path, shape):
        self.path, self.shape = path, shape

    shape = None

    def __call__(self, ta, tb=None, return_U=False, return_A=False):
        found = self.path.increment(ta, tb)
        w, *rest = (None if x is None else x.reshape(self.shape) for x in found[:2])
        return (w, *(rest if return_U else ()), *([found.a] if return_A else ()))[:: 1] if (return_U or return_A) else w

    def __repr__(self):
        return "OurPath"


def torchsdes(term, y0, times, method, area, **options):
    """torchsde's solution at the end, on the path that the term draws for these times."""
    path = term.drawn(y0, Grid(lambda: times, True), area).path
    m = term.channels or (1 if term.noise == "scalar" else y0.shape[1])
    ts = torch.tensor([times[0], times[-1]])
    dt = times[1] - times[0]
    return torchsde.sdeint(
        Twin(term), y0, ts, bm=OurPath(path, (len(y0), m)), method=method, dt=dt, options=options
    )[-1]


def refined(fine, seed=0):
    """One path, known on `fine` equal steps of [0, 1], whatever grid asks."""
    return Increments(base=[k / fine for k in range(fine + 1)], seed=seed)


def slope(errors, steps):
    """The order of convergence that errors show: the least squares line through their logarithms."""
    x = -torch.tensor(steps, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())
