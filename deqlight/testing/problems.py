"""Station: the measuring bench. Smooth problems with known solutions, nonlinear and non-autonomous, in float64.

Each is manufactured: with a chosen solution s(t), the field g(y) + s'(t) − g(s(t)) has it exactly. The field depends
on time at every stage, so that a stage evaluated at the wrong time shows as a lower order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch

from ..errors import InputError
from ..solvers import SolverInfo
from ..states import leaves
from ..terms import Denoising, DiagonalFlow, ODETerm, Partitioned, ReverseSDE, Semilinear, Split, Stochastic, Term
from ..types import State, Tensor, Time
from .equations import quiet
from .problem import Problem
from .quantiles import probability_flow, reverse_equation

__all__ = [
    "Forced",
    "Problem",
    "SampleTerm",
    "by_kind",
    "partitioned",
    "problem_for",
    "split",
]

AMPLITUDES = (0.4, 0.8, 1.2)
"""One for each sample: the batch of a problem holds three different solutions, from nearly linear to strongly not."""

SPANS = (0.1, 0.5, 1.0, 1.0, 2.0, 2.0)
"""How long a problem is, by the order that is looked for: longer where few steps suffice, shorter where many would be
needed for an error below 1e-3."""

HIGH_SPAN, HIGH_SCALE = 6.0, 0.4
"""The same for higher orders, and the factor of their amplitudes: gentle, for their steps are long."""

V = TypeVar("V")

Curve = Callable[[Tensor], Tensor]
"""A function of time: `(1 or batch, 1)` to `(1 or batch, n)`."""


@dataclass(frozen=True, eq=False)
class Forced:
    """The field a·speed(t) + r·(g(z) − g(a·along(t))), with a and r, `(batch, 1)`, those of each sample."""

    amplitude: Tensor
    speed: Curve
    along: Curve
    g: Callable[[Tensor], Tensor]
    rates: Tensor

    def __call__(self, t: Time, z: State) -> Tensor:
        """The field's value, shaped as `z` `(batch, n)`."""
        (leaf,) = leaves(z)
        s = torch.as_tensor(t, dtype=leaf.dtype).reshape(-1, 1)
        a = self.amplitude
        return a * self.speed(s) + self.rates * (self.g(leaf) - self.g(a * self.along(s)))

    def rows(self, index: Tensor) -> Forced:
        """The field of the samples `index` alone."""
        return replace(self, amplitude=self.amplitude[index], rates=self.rates[index])

    def exact(self, t: float) -> Tensor:
        """a·along(t), `(batch, n)`."""
        return self.amplitude * self.along(torch.full((1, 1), t, dtype=self.amplitude.dtype))


class SampleTerm(ODETerm):
    """An `ODETerm` whose field holds something of each sample, and says by its `rows` what some of them have."""

    def rows(self, index: Tensor) -> SampleTerm:
        """The term of the samples `index` alone."""
        return self._replace(field=cast(Forced, self.field).rows(index))


def first_order(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """dy/dt = f(t, y), with `y` `(3, 2)`."""
    field = _forced(dtype, scale, _speed, _curve, _turn)
    return Problem(SampleTerm(field), 0.0, span, field.exact)


def second_order(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """d²y/dt² = F(t, y) with `y` `(3, 1)` and solution a·cos πt, at rest at both ends; gentle, for it is fast."""
    force = _forced(dtype, HIGH_SCALE, lambda s: -(math.pi**2) * _cosine(s), _cosine, lambda y: -torch.sin(y))
    return Problem(SampleTerm(force), 0.0, 1.0, force.exact)


def partitioned(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """dq/dt = v(t, p), dp/dt = F(t, q), each `(3, 1)`, with solution q = a·sin(1.2t), p = a·cos(0.8t)."""
    velocity = _forced(dtype, scale, lambda s: 1.2 * torch.cos(1.2 * s), lambda s: torch.cos(0.8 * s), torch.sin)
    force = _forced(
        dtype, scale, lambda s: -0.8 * torch.sin(0.8 * s), lambda s: torch.sin(1.2 * s), lambda q: -torch.sin(q)
    )
    term = Partitioned(SampleTerm(velocity), SampleTerm(force))
    return Problem(term, 0.0, span, lambda t: (force.exact(t), velocity.exact(t)))


def split(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """dy/dt = turning + pulling back three times as fast, both nonlinear and both forced, with `y` `(3, 2)`."""
    easy = _forced(dtype, scale, lambda s: _speed(s) - _push(s), _curve, _turn)
    stiff = _forced(dtype, scale, _push, _curve, lambda y: -3.0 * torch.tanh(y))
    return Problem(Split(SampleTerm(easy), SampleTerm(stiff)), 0.0, span, easy.exact)


def semilinear(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """dy/dt = L y + f(t, y) with L = diag(−1, −3) and `y` `(3, 2)`."""
    rates = torch.tensor([-1.0, -3.0], dtype=dtype)
    field = _forced(dtype, scale, lambda s: _speed(s) - rates * _curve(s), _curve, _turn)
    return Problem(Semilinear(DiagonalFlow(rates), SampleTerm(field)), 0.0, span, field.exact)


SMOOTH: Mapping[type, Callable[[torch.dtype, float, float], Problem]] = {
    Term: first_order,
    ODETerm: first_order,
    Partitioned: partitioned,
    Split: split,
    Semilinear: semilinear,
    Denoising: probability_flow,
    ReverseSDE: reverse_equation,
}


def problem_for(info: SolverInfo, dtype: torch.dtype = torch.float64) -> Problem:
    """The smooth problem of the kind that a solver says it integrates."""
    make = second_order if info.derivative == 2 else by_kind(info, SMOOTH)
    low = info.order <= len(SPANS)
    problem = make(dtype, *((SPANS[info.order - 1], 1.0) if low else (HIGH_SPAN, HIGH_SCALE)))
    return replace(problem, term=quiet(problem.term, info, problem.y0)) if Stochastic in info.terms else problem


def by_kind(info: SolverInfo, table: Mapping[type, V]) -> V:
    """The table's entry for the first kind of term that a solver names and the table has.

    Raises:
        InputError: if there is none.
    """
    for kind in info.terms:
        if kind is Stochastic and Term in table:  # it gets such a term with noise that is zero, see `quiet`
            return table[Term]
        if kind in table:
            return table[kind]
    got, known = (", ".join(kind.__name__ for kind in kinds) for kinds in (info.terms, table))
    raise InputError(f"the kit got a solver for {got}; it has problems for {known}: measure yours with a Problem")


def _forced(dtype: torch.dtype, scale: float, speed: Curve, along: Curve, g: Callable[[Tensor], Tensor]) -> Forced:
    a = scale * torch.tensor(AMPLITUDES, dtype=dtype)[:, None]
    return Forced(a, speed, along, g, torch.ones_like(a))


def _curve(s: Tensor) -> Tensor:
    return torch.cat([torch.sin(1.3 * s + 0.4), torch.cos(0.9 * s)], 1)


def _speed(s: Tensor) -> Tensor:
    return torch.cat([1.3 * torch.cos(1.3 * s + 0.4), -0.9 * torch.sin(0.9 * s)], 1)


def _push(s: Tensor) -> Tensor:
    return torch.cat([torch.cos(2.0 * s), torch.sin(1.7 * s)], 1)


def _cosine(s: Tensor) -> Tensor:
    return torch.cos(math.pi * s)


def _turn(y: Tensor) -> Tensor:
    return torch.cat([torch.tanh(y[:, 1:]), -torch.tanh(y[:, :1])], 1)
