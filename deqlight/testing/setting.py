"""Station: the measuring bench, its place for gradient rules. A rule with a solver, and solves to differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..controllers import PID, Constant, Controller
from ..errors import InputError
from ..gradients import Direct, Gradient
from ..solution import Solution
from ..solvers import RK4, Dopri5, Heun, Leapfrog, ReversibleHeun, Solver
from ..solving import check_compatible, solve
from ..states import each, leaves, unique
from ..terms import ODETerm, Term
from ..types import State, Tensor, Time
from .trial import converted

__all__ = [
    "DIRECT",
    "Bent",
    "Setting",
    "crossed",
    "derivatives",
    "distant",
    "loss_of",
    "pair",
    "setting_for",
    "slopes",
    "start",
]

WIDTH, BATCH = 4, 3

CANDIDATES: tuple[Solver, ...] = (Dopri5(), RK4(), Heun(), Leapfrog(), ReversibleHeun())
"""The first of these that a rule accepts is the solver it is measured with."""

FEW, MANY, LONG = 5, 16, 100
"""Steps between two outputs for rules whose gradient is that of the steps; for others, whose solves must be so fine
that RK4 leaves 1e-7; and on the long way to rest."""

REST = 26.0
"""Where that way ends: what began at 1 is 1e-10 there."""

COARSE, FIRST_STEP, FINE = 1e-2, 1.0, 1e-9
"""Tolerance of measured steps, and a first one so long that it is rejected; for rules that are as exact as the solve,
the tolerance that gives what `MANY` gives."""

DIRECT = Direct()
"""What rules are compared with."""


@dataclass(frozen=True)
class Setting:
    """A gradient rule, and a solver to measure it with; printed as the rule.

    Attributes:
        gradient: the rule.
        solver: the solver.
    """

    gradient: Gradient
    solver: Solver

    @property
    def ts(self) -> tuple[float, ...]:
        """The times of outputs: three, or for rules of states at rest a long way's two ends."""
        return (0.0, REST) if self.gradient.steady else (0.0, 0.5, 1.0)

    @property
    def fixed(self) -> Constant:
        """Equal steps."""
        return Constant(steps=LONG if self.gradient.steady else FEW if self.gradient.exact else MANY)

    @property
    def joint(self) -> PID:
        """Measured steps that all samples share."""
        if self.gradient.exact:
            return PID(COARSE, COARSE, norm="joint", first_step=FIRST_STEP)
        return PID(FINE, FINE, norm="joint")

    @property
    def own(self) -> PID:
        """Measured steps, each sample its own."""
        return replace(self.joint, norm="sample")

    def accepts(self, controller: Controller) -> bool:
        """Whether solver and rule go together with these steps."""
        return not self.refusal(controller)

    def refusal(self, controller: Controller) -> str:
        """Why solver and rule do not go together with these steps; empty if they do."""
        try:
            check_compatible(ODETerm(Bent()), self.solver, controller, self.gradient)
        except InputError as error:
            return str(error)
        return ""

    def solved(
        self,
        term: Term,
        y0: State,
        *,
        gradient: Gradient | None = None,
        controller: Controller | None = None,
        ts: Sequence[float] | Tensor | None = None,
    ) -> Solution:
        """The solution of the term, on equal steps unless others are given, by the rule unless another is given."""
        rule, pace = gradient or self.gradient, controller or self.fixed
        times = self.ts if ts is None else ts
        solver = converted(self.solver, leaves(y0)[0].dtype)
        return solve(term, y0, times, solver=solver, controller=pace, gradient=rule)

    def __repr__(self) -> str:
        return repr(self.gradient)


def setting_for(gradient: Gradient, solver: Solver | None = None) -> Setting:
    """The rule with this solver, or with the first of the kit's that it accepts.

    Raises:
        InputError: if it accepts none.
    """
    settings = [Setting(gradient, candidate) for candidate in (CANDIDATES if solver is None else (solver,))]
    for setting in settings:
        if setting.accepts(setting.fixed):
            return setting
    tried, refusals = (", ".join(repr(s.solver) for s in settings), "; ".join(s.refusal(s.fixed) for s in settings))
    raise InputError(
        f"{gradient!r} cannot be measured with {tried} on equal steps; name a solver that it accepts: {refusals}"
    )


class Bent(nn.Module):
    """(1 + 0.3 sin 3t)(tanh(W tanh(W y + b) c)/2 − y): W is used twice, c is frozen, and a layer is not used at all.

    All states come to rest.

    Args:
        inside: a layer that the inner value goes through.
        dtype: of the parameters.
    """

    def __init__(self, inside: nn.Module | None = None, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.5).to(dtype))

        self.weight, self.bias, self.spare = drawn(WIDTH, WIDTH), drawn(WIDTH), drawn(2)
        self.frozen = nn.Parameter(1 + drawn(WIDTH).detach(), requires_grad=False)
        self.inside = nn.Identity() if inside is None else inside

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """The field's value, `(batch, 4)`."""
        return torch.as_tensor(1 + 0.3 * torch.sin(torch.as_tensor(3 * t))).to(y.dtype) * (self.pull(y) - y)

    def pull(self, y: Tensor) -> Tensor:
        """Where the state is pulled to."""
        hidden = self.inside(torch.tanh(y @ self.weight.T + self.bias))
        return torch.tanh(hidden @ self.weight.T * self.frozen) / 2


def crossed(field: Bent) -> Term:
    """A term for pairs of states, each pulled by the other."""
    return ODETerm(_Crossed(field))


class _Crossed(nn.Module):
    def __init__(self, field: Bent) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Time, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = y
        return self.field.pull(b) - a, self.field.pull(a) - b


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    """The states that solves begin with, `(3, 4)`, which need a gradient."""
    y = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return y.to(dtype).requires_grad_()


def pair() -> State:
    """A pair of such states."""
    return each(lambda leaf: leaf.detach().requires_grad_(), (start(), start().flip(1)))


def loss_of(solution: Solution, last: bool = False) -> Tensor:
    """A number that every output has a share in, each another; of the last output alone, if so wanted."""
    parts = [leaf[-1:] if last else leaf for leaf in leaves(solution.ys)]
    weights = [torch.linspace(0.5, 1.0, p.numel(), dtype=p.dtype, device=p.device).reshape(p.shape) for p in parts]
    return torch.stack([(p * w).square().sum() for p, w in zip(parts, weights, strict=True)]).sum()


def derivatives(setting: Setting, term: Term, y0: State, solution: Solution, retain: bool = False) -> list[Tensor]:
    """The gradients with respect to the start and to all that the term declares; zero for what is not used."""
    declared = term.tensors(setting.ts[0], setting.ts[-1])
    tensors = [t for t in unique((*leaves(y0), *declared)) if t.requires_grad]
    return slopes(loss_of(solution, setting.gradient.steady), tensors, retain)


def slopes(loss: Tensor, tensors: Sequence[Tensor], retain: bool = False) -> list[Tensor]:
    """The gradients of a number; zero for what is not used."""
    return list(torch.autograd.grad(loss, tensors, retain_graph=retain, allow_unused=True, materialize_grads=True))


def distant(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of gradients, relative to the largest of the expected ones; NaN if there is one."""
    size = torch.stack([e.detach().abs().max() for e in expected]).max()
    gaps = [(f - e).detach().abs().max() for f, e in zip(found, expected, strict=True)]
    return float(torch.stack(gaps).max() / size)
