"""Station: the measuring bench, its little trainings. The same three steps, for one process or one of several."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from ..controllers import PID, AdaptiveSteps, Constant, Controller
from ..errors import InputError
from ..gradients import Gradient
from ..solution import record
from ..solvers import Solver
from ..solving import check_compatible, solve
from ..states import leaves
from ..terms import DiagonalFlow, Layered, ODETerm, Partitioned, Semilinear, Split, Term
from ..types import State, Tensor, Time
from .problems import by_kind
from .trial import converted

__all__ = ["Course", "Taken", "courses", "samples", "trained"]

WIDTH, BATCH, UPDATES = 4, 8, 3
"""Numbers in a sample, samples of all ranks in a step of the optimiser, and such steps."""

AMPLITUDES = (0.1, 1.5)
"""Size of the first sample and of the last: a field of these is three times as fast for one as for the other."""

LAYER_SPEED = 1 / 8
"""Speed of a field whose steps have length one."""

RATE, MOMENTUM = 0.1, 0.9
"""Of SGD. Not Adam, which forgives a gradient that is wrong by a factor."""

PACE = PID(1e-3, 1e-5)
"""Steps of each sample's own: what a sample costs depends on nothing but itself."""


@dataclass(frozen=True)
class Course:
    """One training: how a solver and a gradient rule are used together.

    Attributes:
        solver: the solver.
        gradient: the gradient rule.
        controller: the steps; None for those of a network's layers.
        spare: whether the network has a parameter that nothing uses.
    """

    solver: Solver
    gradient: Gradient
    controller: Controller | None
    spare: bool

    @property
    def name(self) -> str:
        """How it steps, in a word or two."""
        steps = "layers" if self.controller is None else "measured steps" if self.measured else "fixed steps"
        return f"{steps}, spare" if self.spare else steps

    @property
    def measured(self) -> bool:
        """Whether the samples choose their steps."""
        return isinstance(self.controller, AdaptiveSteps)

    @property
    def ts(self) -> Sequence[float]:
        """The times of each solve: of three layers, of one with an output on the way, or of a long way to rest."""
        if self.controller is None:
            return 0.0, 1.0, 2.0, 3.0
        return (0.0, 20.0) if self.gradient.steady else (0.0, 0.5, 1.0)


Spread: TypeAlias = Callable[[nn.Module], nn.Module]
"""What makes a network one of several processes."""


Part: TypeAlias = Callable[..., Any]
"""Makes a field, or layers, of a speed."""


class Taken(NamedTuple):
    """What a training left."""

    parameters: dict[str, Tensor]
    unmoved: tuple[str, ...]
    """The parameters that are used and were not moved."""
    steps: tuple[int, ...]
    """Steps that were tried in each solve, summed over its samples."""


def courses(solver: Solver, gradient: Gradient, controller: Controller | None = None) -> Iterator[Course]:
    """Every way in which a solver and a rule go together: as layers, on a fixed grid, and with measured steps.

    Args:
        solver: the solver.
        gradient: the gradient rule.
        controller: the only steps to take; None for all ways that are accepted.

    Raises:
        InputError: for a norm over the whole batch, and if there is no way.
    """
    if isinstance(controller, AdaptiveSteps) and controller.joint:
        raise InputError(
            f"the kit got {controller!r}, whose steps depend on which samples a process has, and so do its results; "
            'use norm="sample"'
        )
    fixed = Constant(steps=80 if gradient.steady else 4)
    paces = [controller] if controller else [*([None] if gradient.exact else []), fixed, PACE]
    refusals = list[str]()
    for pace in paces:
        try:
            check_compatible(_term(solver, pace is None), solver, pace, gradient)
        except InputError as refusal:
            refusals.append(str(refusal))
            continue
        yield from (Course(solver, gradient, pace, spare) for spare in (False, True))
    if len(refusals) == len(paces):
        raise InputError(f"{solver!r} and {gradient!r} do not go together: {'; '.join(refusals)}")


def samples() -> Iterator[tuple[Tensor, Tensor]]:
    """For each step of the optimiser all samples and their targets, each `(batch, 4)`, the largest samples last."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.linspace(*AMPLITUDES, BATCH, dtype=torch.float64)[:, None]
    for _ in range(UPDATES):
        x, targets = (torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
        yield sizes * x.sign() * (1 + 0.1 * x), targets


def trained(course: Course, rank: int = 0, world: int = 1, spread: Spread | None = None) -> Taken:
    """Take the steps of the optimiser.

    Args:
        course: the training.
        rank: which share of the samples is used.
        world: into how many they are divided.
        spread: what makes a network one of several processes.
    """
    net = _Net(course)
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    whole = net if spread is None else spread(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    with record() as solves:
        for x, targets in samples():
            optimiser.zero_grad()
            (whole(x[share]) - targets[share]).square().mean().backward()
            optimiser.step()
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    unmoved = tuple(n for n, p in parameters.items() if torch.equal(p, start[n]) and n != "spare")
    return Taken(parameters, unmoved, tuple(int((stats.accepted + stats.rejected).sum()) for stats in solves))


class _Net(nn.Module):
    """Two solves of one equation, that is with the same parameters, and a linear map behind."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.course, self.solver = course, converted(copy.deepcopy(course.solver), torch.float64)
        self.term = _term(self.solver, course.controller is None)
        self.head = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        if course.spare:
            self.spare = nn.Parameter(torch.ones(3, dtype=torch.float64))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith(("term.", "head.")):
                    parameter.uniform_(-0.5, 0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """The head's value after both solves, `(batch, 4)`."""
        course, y = self.course, self._state(x)
        for _ in range(2):
            y = solve(
                self.term, y, course.ts, solver=self.solver, controller=course.controller, gradient=course.gradient
            ).y1
        value: Tensor = self.head(leaves(y)[0])
        return value

    def _state(self, x: Tensor) -> State:
        return (x, x.flip(1)) if isinstance(self.term, Partitioned) else x


class _Tied(nn.Module):
    """s (tanh(W tanh(W y))/4 − y − y³/2), one matrix used twice; large states are fast, and all come to rest."""

    def __init__(self, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed
        self.inner = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        return self.speed * (torch.tanh(self.inner(torch.tanh(self.inner(y)))) / 4 - y - y**3 / 2)


def _term(solver: Solver, layered: bool) -> Term:
    """The equation as the solver takes it; as layers, of which the first and the last are one."""
    return by_kind(solver.info, TERMS)(_layers if layered else _Tied)


def _layers(speed: float = 1.0) -> Layered:
    first, second = (_Tied(speed * LAYER_SPEED) for _ in range(2))
    return Layered([first, second, first])


def _semilinear(part: Part) -> Term:
    rates = nn.Parameter(torch.ones(WIDTH, dtype=torch.float64))
    flow = DiagonalFlow(rates)
    return Semilinear(Layered([flow, flow, flow]) if part is _layers else flow, part())


TERMS: Mapping[type, Callable[[Part], Term]] = {
    Term: lambda part: _whole(part()),
    ODETerm: lambda part: _whole(part()),
    Partitioned: lambda part: Partitioned(part(), part(-1.0)),  # which oscillates
    Split: lambda part: Split(part(), part()),
    Semilinear: _semilinear,
}
"""How each kind of term is made of parts."""


def _whole(part: Any) -> Term:
    return part if isinstance(part, Term) else ODETerm(part)
