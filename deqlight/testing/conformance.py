"""Station: the measuring bench. Every claim of a solver's `info` has its measurement here, ours and anyone's."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ..controllers import Constant
from ..errors import ConformanceError, DeqlightError
from ..gradients import Reversible
from ..solvers import ReversibleSolver, Solver
from ..solving import solve
from ..states import each, leaves
from ..terms import ODETerm
from ..types import State, Tensor
from . import measure
from .problems import problem_for
from .report import Report, Row

__all__ = ["Claim", "check_solver", "claims", "report"]

ORDER_WITHIN = 0.15
"""How far the observed order may lie from the claimed one: what three doublings in the asymptotic range resolve."""

ERROR_ORDER_WITHIN = 0.4
"""The same for the error estimate of single steps, whose next term is not much smaller."""

EXACT = 1e-12
"""What float64 leaves of an identity after some hundred operations on numbers of size one."""

UNDO_PER_LAYER = 1e-13
"""Rounding that doing and undoing one layer may leave, relatively."""

GRADIENT_WITHIN = 1e-10
"""How far two exact gradients may differ, relatively, in float64."""

Finding = tuple[str, str, bool]
"""What is claimed, what was measured, and whether both agree."""


@dataclass(frozen=True)
class Claim:
    """One claim of one instance of a solver, ready to be measured; printed as the name of a test."""

    solver: Solver
    name: str
    measurement: Callable[[Solver], Finding]

    def row(self) -> Row:
        """Measure. An error raised by the solver is a finding, too."""
        try:
            claimed, measured, ok = self.measurement(self.solver)
        except (DeqlightError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            claimed, measured, ok = "runs", f"{type(error).__name__}: {error}".splitlines()[0][:120], False
        return Row(repr(self.solver), self.name, claimed, measured, ok)

    def verify(self) -> None:
        """Measure, and raise `ConformanceError` if the claim does not hold."""
        row = self.row()
        if not row.ok:
            raise ConformanceError(f"{row.example} claims {row.claim} {row.claimed}, measured {row.measured}")

    def __str__(self) -> str:
        return f"{self.solver!r}-{self.name}"


def claims(cls: type[Solver]) -> Iterator[Claim]:
    """Every claim of every instance that `cls.examples()` returns."""
    for solver in cls.examples():
        for name, (made, measurement) in MEASUREMENTS.items():
            if made(solver):
                yield Claim(solver, name, measurement)


def report(cls: type[Solver]) -> Report:
    """Measure all claims of a solver class."""
    return Report(cls.__name__, tuple(claim.row() for claim in claims(cls)))


def check_solver(cls: type[Solver]) -> Report:
    """Measure all claims of a solver class, on the instances that its `examples()` returns.

    Raises:
        ConformanceError: with the table of measurements, if a claim does not hold.

    >>> from deqlight.solvers import Heun
    >>> check_solver(Heun).ok
    True
    """
    found = report(cls)
    if not found.ok:
        raise ConformanceError(f"{cls.__name__} does not do what it claims\n{found}")
    return found


def _order(solver: Solver) -> Finding:
    return _close(solver.info.order, measure.observed_order(solver), ORDER_WITHIN)


def _order_backward(solver: Solver) -> Finding:
    return _close(solver.info.order, measure.observed_order(solver, backward=True), ORDER_WITHIN)


def _order_uneven(solver: Solver) -> Finding:
    return _close(solver.info.order, measure.observed_order(solver, uneven=True), ORDER_WITHIN)


def _error_order(solver: Solver) -> Finding:
    return _close(solver.info.error_order or math.nan, measure.observed_error_order(solver), ERROR_ORDER_WITHIN)


def _evaluations(solver: Solver) -> Finding:
    start, step = solver.info.nfe_start, solver.info.nfe_step or 0
    counted = [measure.evaluations(solver, steps) for steps in (8, 16)]
    return (
        f"{start} + {step} N",
        f"{counted[0]} at N = 8, {counted[1]} at N = 16",
        counted == [start + step * n for n in (8, 16)],
    )


def _undo(solver: Solver) -> Finding:
    if not isinstance(solver, ReversibleSolver):
        return "has unstep", "is no ReversibleSolver", False
    layers = 200
    return _below(UNDO_PER_LAYER * layers, measure.undo_gap(solver, layers))


def _gradient(solver: Solver) -> Finding:
    return _below(GRADIENT_WITHIN, measure.gradient_gap(solver, Reversible()))


def _silent_reversible(solver: Solver) -> Finding:
    return "no unstep", "has unstep, info does not say so", False


def _symplectic(solver: Solver) -> Finding:
    return _below(EXACT, measure.symplectic_defect(solver))


def _layers(solver: Solver) -> Finding:
    return _below(EXACT, measure.layer_gap(solver))


def _kinds(solver: Solver) -> Finding:
    """dtype, shape and kind of state come out as they went in."""
    problem, found = problem_for(solver.info, torch.float32), []
    y0 = problem.exact(problem.t0)
    found.append(_same_kind(y0, _short(solver, problem.term, y0)))
    if problem_for(solver.info).term.__class__ is ODETerm:
        for shape in ((3,), (2, 3, 4, 5), (0, 2)):
            y = torch.full(shape, 0.5)
            found.append(_same_kind(y, _short(solver, ODETerm(_decay), y)))
        pair = (torch.ones(3, 2), torch.ones(3, 4, dtype=torch.float64))
        found.append(_same_kind(pair, _short(solver, ODETerm(_decay), pair)))
    return "kept", "kept" if all(found) else f"changed in case {found.index(False)}", all(found)


def _pickling(solver: Solver) -> Finding:
    problem = problem_for(solver.info)
    y0 = problem.exact(problem.t0)
    again = pickle.loads(pickle.dumps(solver))
    pairs = zip(leaves(_short(solver, problem.term, y0)), leaves(_short(again, problem.term, y0)), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    return "same solution", "same" if same else "differs", same


MEASUREMENTS: dict[str, tuple[Callable[[Solver], bool], Callable[[Solver], Finding]]] = {
    "order": (lambda s: True, _order),
    "order, reversed time": (lambda s: True, _order_backward),
    "order, uneven steps": (lambda s: not s.info.uniform_steps, _order_uneven),
    "evaluations": (lambda s: s.info.nfe_step is not None, _evaluations),
    "error order": (lambda s: s.info.error_order is not None, _error_order),
    "undone": (lambda s: s.info.reversible, _undo),
    "undone, unclaimed": (lambda s: isinstance(s, ReversibleSolver) and not s.info.reversible, _silent_reversible),
    "reversible gradient": (lambda s: s.info.reversible, _gradient),
    "symplectic": (lambda s: s.info.symplectic, _symplectic),
    "layers": (lambda s: s.info.continuous_field, _layers),
    "dtype, shape": (lambda s: True, _kinds),
    "pickling": (lambda s: True, _pickling),
}
"""By name: which solvers make the claim, and what measures it."""


def _close(claimed: float, measured: float, within: float) -> Finding:
    return f"{claimed} ± {within}", f"{measured:.2f}", abs(measured - claimed) <= within


def _below(bound: float, measured: float) -> Finding:
    return f"< {bound:.0e}", f"{measured:.1e}", measured < bound


def _short(solver: Solver, term: object, y0: State) -> State:
    return solve(term, y0, [0.0, 0.5], solver=solver, controller=Constant(steps=4)).y1  # type: ignore[arg-type]


def _same_kind(a: State, b: State) -> bool:
    pairs = zip(leaves(a), leaves(b), strict=True)
    return type(a) is type(b) and all((x.shape, x.dtype, x.device) == (y.shape, y.dtype, y.device) for x, y in pairs)


def _decay(t: float | Tensor, y: State) -> State:
    return each(torch.neg, y)
