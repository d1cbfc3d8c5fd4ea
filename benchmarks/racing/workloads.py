"""The workloads of the comparison, and what deqlight is held to in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned
from deqlight.controllers import PID, Constant
from deqlight.gradients import Direct, Reversible
from deqlight.solvers import (
    RK4,
    Dopri5,
    Euler,
    Heun,
    Leapfrog,
    ReversibleHeun,
    ReversiblePair,
    Solver,
    SymplecticEuler,
)

from . import entrants
from .entrants import VARIANTS, Run, Task, deqlight_solves, ours, rule
from .fields import MLP, Paced, VanDerPol, conv
from .race import BOTH, FORWARD, Entrant, Race, Target

DIRECT = Direct()
STEPS = 16
"""Steps of the races of gradient methods."""


def races() -> Iterator[Race]:
    """All of them, in order."""
    yield cheap(1)
    yield cheap(256)
    yield mlp_fixed()
    yield mlp_measured()
    yield images_measured()
    yield checkpoints()
    yield from reversible()
    yield clocks_alike()
    yield clocks_unlike()
    yield euler()


def variants(
    start: Callable[..., Run], targets: Mapping[str, Mapping[str, Target]], suffix: str = "", **more: Any
) -> list[Entrant]:
    """Deqlight in all its variants: `start(**options)`, with the targets of each."""
    first = f"deqlight{suffix}"

    def made(options: Callable[[], dict[str, Any]]) -> Callable[[], Run]:
        return lambda: start(**options())

    return [
        Entrant(
            f"{name}{suffix}",
            made(options),
            targets.get(name, {}),
            floor_of=None if name == "deqlight" else first,
            visible=name == "deqlight",
            **(more if name == "deqlight" else {}),
        )
        for name, options in VARIANTS.items()
    ]


def held(forward: float | None, both: float | None, to: str = "floor") -> dict[str, Target]:
    """Targets of both passes."""
    return {part: Target(most, to) for part, most in ((FORWARD, forward), (BOTH, both)) if most is not None}


def cheap(batch: int) -> Race:
    """A field that costs nothing: what is left is the solver."""
    torch.manual_seed(0)
    y0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64) + 0.1 * torch.randn(batch, 2, dtype=torch.float64)
    task = Task(VanDerPol(), y0.requires_grad_(), end=10.0, tolerance=1e-6)
    joint = PID(1e-6, 1e-6, norm="joint")
    targets = {name: held(most, most, "torchdiffeq") for name, most in zip(VARIANTS, (0.25, 0.06), strict=True)}
    one_each = [Entrant("deqlight, per sample", lambda: deqlight_solves(task, Dopri5(), PID(1e-6, 1e-6), DIRECT))]
    return Race(
        f"cheap field, batch {batch}",
        f"van der Pol, μ = 1, t = 0 … 10, {batch} samples, float64 (float32 does not resolve 1e-6), Dopri5, rtol = "
        "atol = 1e-6",
        [task.field],
        task.y0,
        [
            *variants(partial(deqlight_solves, task, Dopri5(), joint, DIRECT), targets),
            *(one_each if batch > 1 else []),
            *peers(task),
        ],
    )


def peers(task: Task) -> list[Entrant]:
    """The other libraries' Dopri5, through the steps."""
    return [
        Entrant("torchdiffeq", lambda: entrants.torchdiffeq(task)),
        Entrant("torchode, per sample", lambda: entrants.torchode(task)),
        Entrant("torchdyn", lambda: entrants.torchdyn(task)),
    ]


def mlp_fixed() -> Race:
    """Twenty equal steps of RK4."""
    torch.manual_seed(0)
    task = Task(MLP(), torch.randn(256, 64).requires_grad_(), steps=20)
    targets = {name: held(*most) for name, most in zip(VARIANTS, ((1.05, 1.03), (0.86, 0.92)), strict=True)}
    return Race(
        "MLP field, RK4",
        "64 → 256 → 64, tanh, 256 samples, float32, 20 steps of RK4",
        [task.field],
        task.y0,
        [
            *variants(partial(deqlight_solves, task, RK4(), Constant(steps=20), DIRECT), targets),
            Entrant("torchdiffeq", lambda: entrants.torchdiffeq(task, "rk4")),
            Entrant("torchdyn", lambda: entrants.torchdyn(task, "rk4")),
        ],
    )


def mlp_measured() -> Race:
    """Measured steps, and the continuous adjoint."""
    torch.manual_seed(0)
    task = Task(MLP(), torch.randn(256, 64).requires_grad_(), tolerance=1e-4)
    joint = PID(1e-4, 1e-4, norm="joint")
    targets = {name: held(*most) for name, most in zip(VARIANTS, ((1.12, 1.08), (0.92, 0.98)), strict=True)}
    adjoint = {
        "torchdiffeq": lambda: entrants.torchdiffeq(task, adjoint=True),
        "torchode, per sample": lambda: entrants.torchode(task, adjoint=True),
        "torchdyn": lambda: entrants.torchdyn(task, adjoint=True),
    }
    return Race(
        "MLP field, Dopri5",
        "64 → 256 → 64, tanh, 256 samples, float32, Dopri5, rtol = atol = 1e-4, joint norm",
        [task.field],
        task.y0,
        [
            *variants(partial(deqlight_solves, task, Dopri5(), joint, DIRECT), targets),
            Entrant(
                "deqlight, Backsolve",
                lambda: deqlight_solves(task, Dopri5(), joint, rule("Backsolve")),
                held(None, 2.0),
                floor_of="deqlight",
            ),
            *peers(task),
            *(Entrant(f"{name.partition(',')[0]}, adjoint", run, floor_of=name) for name, run in adjoint.items()),
        ],
    )


def images_measured() -> Race:
    """A field of images, forward and backward."""
    torch.manual_seed(0)
    task = Task(conv(), torch.randn(32, 32, 16, 16).requires_grad_(), tolerance=1e-3)
    joint = PID(1e-3, 1e-3, norm="joint")
    return Race(
        "conv field, Dopri5",
        "two 3×3 convolutions with norm and ReLU, 32 channels, 16×16, 32 samples, float32, Dopri5, rtol = atol = 1e-3",
        [task.field],
        task.y0,
        [
            *variants(
                partial(deqlight_solves, task, Dopri5(), joint, DIRECT),
                {"deqlight": held(None, 1.05)},
                most_mib=76.0,
            ),
            *peers(task),
        ],
        passes=(BOTH,),
    )


def checkpoints() -> Race:
    """Exact gradients from some of the states."""
    torch.manual_seed(0)
    task = Task(conv(gain=0.3), torch.randn(32, 32, 16, 16).requires_grad_(), steps=STEPS)
    root = math.isqrt(STEPS)

    def by(name: str, *args: Any) -> Callable[[], Run]:
        return lambda: deqlight_solves(task, RK4(), Constant(steps=STEPS), rule(name, *args))

    return Race(
        "conv field, RK4, checkpoints",
        f"the conv field, {STEPS} steps of RK4; one state of each step, √n = {root} states, and 8",
        [task.field],
        task.y0,
        [
            Entrant("deqlight, Direct", by("Direct")),
            Entrant("deqlight, Checkpoint", by("Checkpoint", None), held(None, 1.35), floor_of="deqlight, Direct"),
            Entrant(
                f"deqlight, Checkpoint({root})", by("Checkpoint", root), held(None, 1.5), floor_of="deqlight, Direct"
            ),
            Entrant("deqlight, Checkpoint(8)", by("Checkpoint", 8), floor_of="deqlight, Direct"),
            Entrant("deqlight, Backsolve", by("Backsolve"), floor_of="deqlight, Direct"),
            Entrant("torchdiffeq", lambda: entrants.torchdiffeq(task, "rk4")),
            Entrant("torchdiffeq, adjoint", lambda: entrants.torchdiffeq(task, "rk4", True), floor_of="torchdiffeq"),
        ],
        passes=(BOTH,),
    )


def reversible() -> Iterator[Race]:
    """Undoing the steps, against the same solver's own direct gradient."""
    for name, solver, most in (
        ("Leapfrog", Leapfrog(), 1.6),
        ("ReversibleHeun", ReversibleHeun(), 1.75),
        ("ReversiblePair(Heun)", ReversiblePair(Heun()), 1.75),
    ):
        torch.manual_seed(0)
        field, y0 = conv(gain=0.3), torch.randn(32, 32, 16, 16).requires_grad_()
        yield _undone(name, solver, ODETerm(field), [field], y0, y0, most)
    torch.manual_seed(0)
    halves = [[conv(gain=0.3) for _ in range(STEPS)] for _ in range(2)]
    q, p = torch.randn(32, 32, 16, 16).requires_grad_(), torch.randn(32, 32, 16, 16)
    term = Partitioned(*map(Layered, halves))
    yield _undone("RevNet", SymplecticEuler(), term, [*halves[0], *halves[1]], q, (q, p), 1.6)


def _undone(
    name: str, solver: Solver, term: Any, fields: list[nn.Module], y0: torch.Tensor, state: Any, most: float
) -> Race:
    layers = len(fields) > 1
    ts = [float(n) if layers else n / STEPS for n in range(STEPS + 1)]
    what = f"{STEPS} layers of two halves, each a conv field of its own" if layers else f"the conv field, {STEPS} steps"
    return Race(
        f"Reversible, {name}",
        what,
        fields,
        y0,
        [
            Entrant("deqlight, Direct", lambda: ours(term, state, ts, solver)),
            Entrant(
                "deqlight, Reversible",
                lambda: ours(term, state, ts, solver, gradient=Reversible()),
                held(None, most, "deqlight, Direct"),
            ),
        ],
        floored=False,
        passes=(BOTH,),
    )


def clocks_alike() -> Race:
    """A clock for each sample where one would do."""
    torch.manual_seed(0)
    task = Task(MLP(), torch.randn(256, 64).requires_grad_(), tolerance=1e-4)
    about = "the MLP field, Dopri5, rtol = atol = 1e-4, samples alike"
    return _clocks("clocks, samples alike", about, task, held(1.12, 1.06, "deqlight, joint"))


def clocks_unlike() -> Race:
    """A clock for each sample where one of sixteen samples is ten times as fast."""
    torch.manual_seed(0)
    speeds = torch.ones(256, 1)
    speeds[::16] = 10.0
    task = Task(Paced(MLP()), torch.cat([torch.randn(256, 64), speeds], 1).requires_grad_(), tolerance=1e-4)
    about = "the MLP field, one of 16 samples ten times as fast, Dopri5, rtol = atol = 1e-4"
    return _clocks("clocks, samples unlike", about, task, held(1.0, 1.0, "deqlight, joint"))


def _clocks(name: str, about: str, task: Task, targets: dict[str, Target]) -> Race:
    def with_norm(norm: Any) -> Callable[[], Run]:
        return lambda: deqlight_solves(task, Dopri5(), PID(task.tolerance, task.tolerance, norm=norm), DIRECT)

    return Race(
        name,
        about,
        [task.field],
        task.y0,
        [
            Entrant("deqlight, joint", with_norm("joint")),
            Entrant("deqlight, per sample", with_norm("sample"), targets),
            *peers(task),
        ],
        floored=False,
    )


def euler() -> Race:
    """Euler's method, beside torchsde's Euler–Maruyama, which is the nearest that it has to an ODE solver."""
    torch.manual_seed(0)
    task = Task(MLP().double(), torch.randn(256, 64, dtype=torch.float64).requires_grad_(), steps=20)
    return Race(
        "MLP field, Euler",
        "the MLP field in float64 (else torchsde's steps leave a sliver), 20 steps of Euler; torchsde also draws a "
        "Brownian path for a noise of 1e-6, so this is no like-for-like figure",
        [task.field],
        task.y0,
        [
            *variants(partial(deqlight_solves, task, Euler(), Constant(steps=20), DIRECT), {}),
            Entrant("torchsde, Euler–Maruyama", lambda: entrants.torchsde(task)),
        ],
    )
