"""Station: the measuring bench. Smooth problems with known solutions, nonlinear and non-autonomous, in float64.

Each is manufactured: with a chosen solution s(t), the field g(y) + s'(t) − g(s(t)) has it exactly. The field depends
on time at every stage, so that a stage evaluated at the wrong time shows as a lower order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..solvers import SolverInfo
from ..states import leaves, like
from ..terms import ODETerm, Partitioned, Term
from ..types import State, Tensor, Time

__all__ = ["Problem", "first_order", "partitioned", "pendulum", "problem_for", "second_order"]

AMPLITUDES = (0.3, 0.4, 0.5)
"""One for each sample: the batch of a problem holds three different solutions."""


@dataclass(frozen=True)
class Problem:
    """A term, the time it is integrated over, and its solution as a function of time `t -> state`."""

    term: Term
    t0: float
    t1: float
    exact: Callable[[float], State]


class _First(nn.Module):
    """y' = tanh(y₂), −tanh(y₁) and forcing, with solution a·(sin(1.3t + 0.4), cos(0.9t))."""

    amplitude: Tensor

    def __init__(self, amplitude: Tensor) -> None:
        super().__init__()
        self.register_buffer("amplitude", amplitude)

    def exact(self, t: Time) -> Tensor:
        s = torch.as_tensor(t, dtype=self.amplitude.dtype).reshape(-1, 1)
        return self.amplitude * torch.cat([torch.sin(1.3 * s + 0.4), torch.cos(0.9 * s)], 1)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        s = torch.as_tensor(t, dtype=self.amplitude.dtype).reshape(-1, 1)
        speed = self.amplitude * torch.cat([1.3 * torch.cos(1.3 * s + 0.4), -0.9 * torch.sin(0.9 * s)], 1)
        return speed + _turn(y) - _turn(self.exact(t))


class _Half(nn.Module):
    """One half of a partitioned problem: x' = sign · sin(z) and forcing, where x should be `exact`, z `other`."""

    def __init__(self, sign: float, speed: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.sign, self.speed, self.other = sign, speed, other

    def forward(self, t: Time, z: Tensor) -> Tensor:
        s = like(t, z) if isinstance(t, Tensor) else torch.full_like(z[:1], t)
        s = torch.as_tensor(s)
        return self.speed(s) + self.sign * (torch.sin(z) - torch.sin(self.other(s)))


def first_order(dtype: torch.dtype = torch.float64, end: float = 2.0) -> Problem:
    """dy/dt = f(t, y) with `y` `(3, 2)`, from 0 to `end`."""
    field = _First(torch.tensor(AMPLITUDES, dtype=dtype)[:, None])
    return Problem(ODETerm(field), 0.0, end, field.exact)


def second_order(dtype: torch.dtype = torch.float64) -> Problem:
    """d²y/dt² = F(t, y) with `y` `(3, 1)` and solution a·cos πt, at rest at both ends."""
    a = torch.tensor(AMPLITUDES, dtype=dtype)[:, None]

    def exact(t: float | Tensor) -> Tensor:
        return a * torch.cos(math.pi * torch.as_tensor(t, dtype=dtype))

    def force(t: Time, y: State) -> State:
        s = exact(t)
        return -(math.pi**2) * s - torch.sin(leaves(y)[0]) + torch.sin(s)

    return Problem(ODETerm(force), 0.0, 1.0, exact)


def partitioned(dtype: torch.dtype = torch.float64) -> Problem:
    """dq/dt = v(t, p), dp/dt = F(t, q), each `(3, 1)`, with solution q = a·sin(1.2t), p = a·cos(0.8t)."""
    a = torch.tensor(AMPLITUDES, dtype=dtype)[:, None]
    velocity = _Half(1.0, lambda t: a * 1.2 * torch.cos(1.2 * t), lambda t: a * torch.cos(0.8 * t))
    force = _Half(-1.0, lambda t: a * -0.8 * torch.sin(0.8 * t), lambda t: a * torch.sin(1.2 * t))

    def exact(t: float) -> State:
        s = torch.as_tensor(t, dtype=dtype)
        return a * torch.sin(1.2 * s), a * torch.cos(0.8 * s)

    return Problem(Partitioned(velocity, force), 0.0, 1.0, exact)


def pendulum() -> Term:
    """The Hamiltonian system H = p²/2 − cos q."""
    return Partitioned(lambda t, p: p, lambda t, q: -torch.sin(torch.as_tensor(q)))


def problem_for(info: SolverInfo, dtype: torch.dtype = torch.float64) -> Problem:
    """The problem of the kind that a solver says it integrates; shorter for order 1, which needs many steps."""
    if info.derivative == 2:
        return second_order(dtype)
    return partitioned(dtype) if info.terms == (Partitioned,) else first_order(dtype, 1.0 if info.order == 1 else 2.0)


def _turn(y: Tensor) -> Tensor:
    return torch.cat([torch.tanh(y[:, 1:]), -torch.tanh(y[:, :1])], 1)
