"""Station: the way back, through noise: a stochastic equation as the ordinary one that its path drives."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from ..brownian import Grid
from ..controllers import AdaptiveSteps
from ..errors import InputError
from ..problem import Problem
from ..solvers import Solver
from ..states import each, like
from ..terms import Converted, Stochastic
from ..terms.ode import OrdinaryTerm
from ..terms.suited import check_noise
from ..types import Hook, State, Tensor, Time

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Driven", "check_relied", "driven"]


class Driven(OrdinaryTerm):
    """dy/dt = f(t, y) + g(t, y) ΔW/h, where ΔW is what the path did over the step that is taken, and h its length.

    A step of an explicit Runge–Kutta method with this field is the same step with the stochastic term: both add up
    f h + g ΔW with the method's weights. So what is known of ordinary equations, their adjoint among it, serves
    stochastic ones in Stratonovich's sense. Between steps only the drift moves.

    Args:
        term: the equation, with its path, in Stratonovich's sense or with additive noise.
    """

    term: Stochastic
    rate: State | None = None

    def __init__(self, term: Stochastic) -> None:
        super().__init__()
        self.term, self.continuous = term, term.continuous

    def vf(self, t: Time, y: State) -> State:
        """The slope at `t`, `y`; the drift alone between steps."""
        if self.rate is None:
            return self.term.drift(t, y)
        slope = self.term.vf(t, y)
        return each(torch.add, slope.f, self.term.noise_prod(slope.g, self.rate))

    def over(self, t0: Time, t1: Time) -> Self:
        """The field over the step, in either direction of time."""
        term, length = cast(Stochastic, self.term.over(t0, t1)), t1 - t0
        rate = each(lambda w: w / like(length, w), term.control(t0, t1).w)
        return self._with(term)._replace(rate=rate)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """Those of the equation."""
        return self.term.jumps(low, high)

    def rows(self, index: Tensor) -> Self:
        """The equation and its path for the samples `index` alone."""
        return self._with(cast(Stochastic, self.term.rows(index)))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the equation."""
        return self.term.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Self:
        """The same with `hook` around the fields of the equation."""
        return self._with(cast(Stochastic, self.term.wrap(hook)))

    def _with(self, term: Stochastic) -> Self:
        return self._replace(_modules={"term": term})


def driven(term: Stochastic, solver: Solver, controller: object) -> Driven:
    """What a rule integrates back in place of a stochastic term, with the correction that Itô's equations need.

    Itô's integral sees the start of each step, which is its end on the way back; Stratonovich's is the same both ways.

    Raises:
        InputError: for solvers that do not know the equation's noise or solve another calculus, and for measured steps
            where the noise leaves them below strong order 1.
    """
    info, name, order = solver.info, type(solver).__name__, solver.info.strong_order.get(term.noise)
    if order is None:
        raise InputError(
            f"Backsolve got the solver {name} for the way back of {term.noise} noise, which it does not integrate; use "
            "Backsolve(solver=Heun()) or Backsolve(solver=Midpoint())"
        )
    if info.calculus != "stratonovich" and term.noise != "additive":
        raise InputError(
            f"Backsolve got the solver {name} for the way back of {term.noise} noise; the way back is an equation in "
            f"Stratonovich's sense, and {name} solves those in Itô's: use Backsolve(solver=Heun()), which adds the "
            "correction to the drift where the term is Itô's, or the gradient Checkpoint"
        )
    if isinstance(controller, AdaptiveSteps) and order < 1:
        raise InputError(
            f"Backsolve got measured steps for the way back of {term.noise} noise, where {name} is of strong order "
            f"{order:g}: steps that the noise itself chooses lead below order 1 to another equation (Gaines & Lyons "
            "1997); use Backsolve(controller=Constant(…)), or the gradient Checkpoint"
        )
    return Driven(Converted(term) if _corrected(term) else term)


def check_relied(back: Problem) -> None:
    """Look at diagonal noise, where the way back relies on it: for Itô's correction, and for measured steps.

    The solve has been done, so that fields which draw numbers draw those again.

    Raises:
        InputError: if the diffusion of one number depends on others.
    """
    term = back.term
    if not isinstance(term, Driven) or term.term.noise != "diagonal":
        return
    if isinstance(term.term, Converted) or isinstance(back.controller, AdaptiveSteps):
        times = tuple(float(ends[0]) for ends in back.host_ends)
        check_noise(term.term, term.term, back.y0, Grid(lambda: times, True), relied=True)


def _corrected(term: Stochastic) -> bool:
    return term.calculus == "ito" and term.noise != "additive"
