"""Station: the way back, its sums. What a step makes of each evaluation of the field, as the solver itself tells it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..errors import InputError
from ..solvers import Solver
from ..states import leaves, tree_tensors
from ..terms.ode import OrdinaryTerm
from ..times import Array
from ..types import Carry, Hook, State, Tensor, Time

__all__ = ["Outline", "keeps_memory", "told"]

SAME = 1e-12
"""Relative difference of weights a unit of time that are the same but for rounding."""


class Told(NamedTuple):
    """What one step adds to the state for each of its evaluations, in units of these."""

    weights: Tensor
    """`(rows, calls)`, one row for all samples that share a step; the evaluation that was carried in comes first."""
    leaving: int | None
    """Which of them is carried on."""


class Outline:
    """The weights of steps that all samples take together: Python floats.

    Two steps of different lengths show whether weights are proportional to the length, as those of all Runge–Kutta
    methods are; then no others are asked for.

    Args:
        solver: the solver.
        continuous: whether an evaluation may be carried over the end of a step.
    """

    def __init__(self, solver: Solver, continuous: bool) -> None:
        self.solver = solver
        self.carries = continuous and _carries(solver)
        self.leaving: int | None = None
        self._rate: Array | None = None
        self._proportional = False
        self._length = 0.0

    def weights(self, t0: float, t1: float) -> list[float]:
        """Those of a step."""
        length = t1 - t0
        if self._rate is not None and (self._proportional or length == self._length):
            return [float(rate) * length for rate in self._rate]
        found = told(self.solver, t0, t1, self.carries)
        rate = found.weights[0].numpy() / length
        if self._rate is not None:
            self._proportional = bool(np.allclose(rate, self._rate, rtol=SAME, atol=SAME))
        self._rate, self._length, self.leaving = rate, length, found.leaving
        return found.weights[0].tolist()


@torch.no_grad()
def told(solver: Solver, t0: Time, t1: Time, carries: bool = False) -> Told:
    """What the solver tells: it steps states of one number a call, and the field's i-th value is 1 in the i-th."""
    rows, device = (len(t0), t0.device) if isinstance(t0, Tensor) else (1, torch.device("cpu"))
    calls = (solver.info.nfe_step or 1) + 1
    while True:
        zero, units = torch.zeros(rows, calls, dtype=torch.float64, device=device), _Units(carries)
        carry = solver.init(units, t0, t1, zero) if carries else None
        step = solver.step(units, t0, t1, zero, carry)
        if units.made <= calls:
            weights = leaves(step.y)[0].to("cpu" if rows == 1 else device)
            return Told(weights[:, : units.made], _place(step.carry) if carries else None)
        calls = units.made


def keeps_memory(solver: Solver) -> bool:
    """Whether a solver has a memory of its own, even where no evaluation may go over the end of a step."""
    return bool(tree_tensors(solver.init(_Units(False), 0.0, 1.0, torch.zeros(1, 1))))


def _carries(solver: Solver) -> bool:
    """Whether all that a solver remembers is one evaluation, made at the end of a step for the next."""
    units = _Units(True)
    carry = solver.init(units, 0.0, 1.0, torch.zeros(1, 1, dtype=torch.float64))
    if units.made != 1 or _place(carry) != 0:
        return False
    return told(solver, 0.0, 1.0, carries=True).leaving is not None


def _place(carry: Carry) -> int | None:
    """Which evaluation a memory is; None if it is something else."""
    tensors = tree_tensors(carry)
    if len(tensors) != 1:
        return None
    row = tensors[0][0]
    return int(row.argmax()) if row.sum() == 1 and row.max() == 1 else None


class _Units(OrdinaryTerm):
    """A field whose i-th value is the i-th unit vector."""

    def __init__(self, continuous: bool) -> None:
        super().__init__()
        self.continuous, self.made = continuous, 0

    def vf(self, t: Time, y: State) -> State:
        (leaf,) = leaves(y)
        value = torch.zeros_like(leaf)
        if self.made < leaf.shape[1]:
            value[:, self.made] = 1.0
        self.made += 1
        return value

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        return ()

    def wrap(self, hook: Hook) -> _Units:
        return self


def unlike(solver: Solver) -> InputError:
    """What to say of a solver whose evaluations do not match what it told."""
    return InputError(
        f"Backsolve got the solver {solver!r}, whose evaluations in a step depend on more than its length; "
        "use Backsolve(solver=Dopri5())"
    )
