"""Falling balls and what they hit, shared by the tests of events."""

import torch
from torch import nn

from deqlight import Event
from deqlight.controllers import PID, Constant
from deqlight.solvers import RK4, Dopri5, Heun

EXACT = 1e-10
"""What rounding may leave where the method solves the problem exactly: quadratics, by methods of order 2 and more."""

TIGHT = PID(1e-11, 1e-11)

WAYS = {
    "own clocks": {"solver": Dopri5(), "controller": PID(1e-8, 1e-8)},
    "joint clock": {"solver": Dopri5(), "controller": PID(1e-8, 1e-8, norm="joint")},
    "fixed": {"solver": RK4(), "controller": Constant(steps=7)},
    "the grid alone": {"solver": Heun()},
}


class Ball(nn.Module):
    """Height and velocity of a falling ball."""

    def __init__(self):
        super().__init__()
        self.g = nn.Parameter(torch.tensor(9.81))

    def forward(self, t, y):
        return torch.stack([y[:, 1], -self.g.expand(len(y))], 1)


class Level(nn.Module):
    """Zero where the first number of a state is at a level that can be learnt."""

    def __init__(self, level):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, t, y):
        return y[:, 0] - self.level


def height(t, y):
    return y[:, 0]


GROUND = Event(height, terminal=True)


def dropped(h):
    return torch.stack([h, torch.zeros_like(h)], 1)


def bouncing(restitution):
    return Event(height, direction=-1, effect=lambda t, y: torch.stack([y[:, 0], -restitution * y[:, 1]], 1))
