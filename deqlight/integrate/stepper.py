"""Station: the clock, its hand. One step of a solve and its error, as it is or as a compiled graph."""

from __future__ import annotations

from collections.abc import Hashable
from types import FunctionType
from typing import Any

import torch

from ..compiling import compiled, must_be_traced
from ..controllers import AdaptiveSteps
from ..errors import InputError
from ..problem import Problem
from ..solution import Tally
from ..solvers import Solver, Step
from ..states import leaves
from ..terms import ODETerm, Stochastic, Term
from ..terms.guard import restless
from ..terms.replay import tracking
from ..types import Carry, State, Tensor, Time

__all__ = ["Stepper", "check_compilable", "kind_of"]

_NOTHING = torch.zeros(())


class Stepper:
    """Takes the steps of a solve and measures their errors.

    Args:
        problem: the solve.
        controller: what measures; None for steps that are not measured.
        tally: counts the evaluations of the field.
    """

    def __init__(self, problem: Problem, controller: AdaptiveSteps | None, tally: Tally) -> None:
        self.solver, self.controller, self.tally = problem.solver, controller, tally
        self.compile, self.slopes = problem.compile, problem.saveat.dense or bool(problem.events)
        self.term = problem.term if self.compile else problem.term.wrap(tally)
        self.device = leaves(problem.y0)[0].device

    def counted(self, term: Term) -> Term:
        """The term with its evaluations counted; those of compiled steps are counted by their graphs."""
        return term.wrap(self.tally) if self.compile else term

    def __call__(self, term: Term, t0: Time, t1: Time, y: State, carry: Carry) -> tuple[Step, Tensor]:
        """A step from `y`, and the size of its error in units of the tolerance (0 where none is measured).

        `term` is that over the step.
        """
        if self.compile is None:
            step = self.solver.step(term, t0, t1, y, carry)
            if self.controller is None:
                return step, _NOTHING
            return step, self.controller.errors(y if step.error is None else step.error, y, step.y)
        graph = compiled(_step, kind_of(term, self.solver))
        start, end = (self._tensor(t) for t in (t0, t1))
        y1, carry, errors, slopes, calls = graph(self.solver, self.controller, term, start, end, y, carry, self.slopes)
        self.tally.calls += calls
        return Step(y1, carry, slopes=slopes), errors

    def _tensor(self, t: Time) -> Tensor:
        return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64, device=self.device)


def check_compilable(term: Term, solver: Solver) -> None:
    """Refuse what a graph of one step cannot do.

    Raises:
        InputError: for solvers that iterate, and for fields with layers that draw or count.
    """
    name = type(solver).__name__
    if solver.info.nfe_step is None:
        raise InputError(
            f"compile got the solver {name}, which iterates until it converges, and so has no fixed graph; use an "
            "explicit solver, or leave out compile="
        )
    if any(isinstance(part, Stochastic) for part in term.modules()):
        raise InputError(
            f"compile got the stochastic term {type(term).__name__}, whose noise a graph of one step would hold still; "
            "leave out compile="
        )
    layers = [layer for layer in term.modules() if layer.training and (restless(layer) or tracking([layer]))]
    if layers:
        raise InputError(
            f"compile got a field with {type(layers[0]).__name__} in training mode, which a graph of one step cannot "
            "hold still for a whole solve; call eval() on it, use GroupNorm2d, or leave out compile= and give the "
            "whole network to torch.compile"
        )


def kind_of(term: Term, solver: Solver) -> Hashable:
    """What tells one compiled step from another, besides shapes and dtypes."""
    functions = (module.field for module in term.modules() if isinstance(module, ODETerm))
    codes = tuple(field.__code__ for field in functions if isinstance(field, FunctionType))
    return type(solver), tuple(type(module) for module in term.modules()), codes


def _step(
    solver: Solver,
    controller: AdaptiveSteps | None,
    term: Term,
    t0: Tensor,
    t1: Tensor,
    y: State,
    carry: Carry,
    slopes: bool,
) -> tuple[State, Carry, Tensor, tuple[Any, ...], int]:
    """A step as a graph: what leaves it is what is needed, so that the rest is never written to memory."""
    must_be_traced()
    tally = Tally()
    step = solver.step(term.wrap(tally), t0, t1, y, carry)
    errors = (
        t0.new_zeros(())
        if controller is None
        else controller.errors(y if step.error is None else step.error, y, step.y)
    )
    return step.y, step.carry, errors, step.slopes if slopes else (), tally.calls
