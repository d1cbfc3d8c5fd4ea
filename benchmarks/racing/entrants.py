"""Who takes part: deqlight, as it is and compiled, and its peers, each called as its documentation has it.

An entrant is a function of a field and a state, which gives the state at the end. What is not installed, or not there
yet, raises `Absent`, and its rows are skipped with a printed line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import deqlight
from deqlight import ODETerm, SaveAt, Term, gradients, solve
from deqlight.controllers import Controller
from deqlight.gradients import Direct, Gradient
from deqlight.solvers import Solver

from .fields import Flat

FINAL = SaveAt(final=True)
Run = Callable[[], Tensor]
"""A forward pass: the state at the end."""


class Absent(Exception):
    """Something that cannot take part, and why."""


@dataclass(frozen=True)
class Task:
    """What all entrants of a race solve: the field from `y0`, at time 0, to `end`."""

    field: nn.Module
    y0: Tensor
    end: float = 1.0
    tolerance: float = 1e-6
    """rtol and atol, where steps are measured."""
    steps: int = 20
    """Steps, where they are equal."""


def library(name: str) -> ModuleType:
    """A peer's module; raises `Absent` where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise Absent(f"{name} is not installed ({error})") from error


def rule(name: str, *args: Any) -> Gradient:
    """A gradient method by its name; raises `Absent` where this deqlight has none of that name."""
    if name not in gradients.__all__:
        raise Absent(f"this deqlight has no gradient {name}")
    return getattr(gradients, name)(*args)


def compiled() -> dict[str, Any]:
    """What makes a solve a compiled one; raises `Absent` where this deqlight cannot."""
    try:
        return {"compile": deqlight.Compile()}
    except AttributeError:
        raise Absent("this deqlight has no Compile") from None


def eager() -> dict[str, Any]:
    """What makes a solve an ordinary one: nothing."""
    return {}


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {"deqlight": eager, "deqlight, compiled": compiled}
"""How deqlight can run: its name in the tables, and what `solve` is told."""


def ours(
    term: Term,
    y0: Any,
    ts: Sequence[float],
    solver: Solver,
    controller: Controller | None = None,
    gradient: Gradient = Direct(),  # noqa: B008  a frozen value
    **options: Any,
) -> Run:
    """A solve by deqlight; of several leaves, the first."""

    def run() -> Tensor:
        y1 = solve(term, y0, ts, solver=solver, controller=controller, gradient=gradient, saveat=FINAL, **options).y1
        return y1[0] if isinstance(y1, tuple) else y1

    return run


def deqlight_solves(task: Task, solver: Solver, controller: Controller, gradient: Gradient, **options: Any) -> Run:
    """Deqlight on the race's own task."""
    return ours(ODETerm(task.field), task.y0, (0.0, task.end), solver, controller, gradient, **options)


def torchdiffeq(task: Task, method: str = "dopri5", adjoint: bool = False) -> Run:
    """torchdiffeq: `odeint` through the steps, or `odeint_adjoint`; its rk4 is the 3/8 rule."""
    peer = library("torchdiffeq")
    times = torch.tensor([0.0, task.end], dtype=task.y0.dtype)
    integrate = peer.odeint_adjoint if adjoint else peer.odeint
    how: dict[str, Any] = {"rtol": task.tolerance, "atol": task.tolerance}
    if method == "rk4":
        how = {"options": {"step_size": task.end / task.steps}}
    return lambda: integrate(task.field, task.y0, times, method=method, **how)[-1]


def torchode(task: Task, adjoint: bool = False) -> Run:
    """torchode: Dopri5, each sample with its own steps; the adjoint with joint ones.

    It is spared the gradients of its step sizes, which it takes by default and nobody else does.
    """
    peer = library("torchode")
    field = task.field if task.y0.dim() == 2 else Flat(task.field, task.y0.shape[1:])
    term = peer.ODETerm(field, with_stats=False)
    controller = peer.IntegralController(task.tolerance, task.tolerance, term=term)
    method = peer.Dopri5(term)
    if adjoint:
        solver = peer.JointBacksolveAdjoint(term, method, controller)
    else:
        solver = peer.AutoDiffAdjoint(method, controller, backprop_through_step_size_control=False)
    start = task.y0.new_zeros(len(task.y0))
    end = start + task.end

    def run() -> Tensor:
        problem = peer.InitialValueProblem(task.y0.flatten(1), start, end)
        return solver.solve(problem).ys[:, -1].view_as(task.y0)

    return run


def torchdyn(task: Task, method: str = "dopri5", adjoint: bool = False) -> Run:
    """torchdyn: `odeint`, or an `ODEProblem` with the adjoint at the same tolerances."""
    numerics = library("torchdyn.numerics")
    if method == "rk4":
        times = torch.linspace(0.0, task.end, task.steps + 1, dtype=task.y0.dtype)
        save = times[-1:]
        return lambda: numerics.odeint(task.field, task.y0, times, "rk4", save_at=save)[1][-1]
    times = torch.tensor([0.0, task.end], dtype=task.y0.dtype)
    how = {"rtol": task.tolerance, "atol": task.tolerance}
    if not adjoint:
        return lambda: numerics.odeint(task.field, task.y0, times, method, **how)[1][-1]
    both = how | {"rtol_adjoint": task.tolerance, "atol_adjoint": task.tolerance}
    problem = library("torchdyn.core").ODEProblem(task.field, method, sensitivity="adjoint", **both)
    return lambda: problem(task.y0, times)[1][-1]


def torchsde(task: Task) -> Run:
    """torchsde: Euler–Maruyama with a noise of 1e-6; it draws a Brownian path, so it is more than an ODE solve."""
    peer = library("torchsde")

    class Drift(nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self) -> None:
            super().__init__()
            self.drift = task.field

        def f(self, t: Tensor, y: Tensor) -> Tensor:
            return self.drift(t, y)

        def g(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.full_like(y, 1e-6)

    sde, times = Drift(), torch.tensor([0.0, task.end], dtype=task.y0.dtype)
    return lambda: peer.sdeint(sde, task.y0, times, method="euler", dt=task.end / task.steps)[-1]
