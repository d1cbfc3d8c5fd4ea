"""Station: the front door, the cashier. A solve is charged for its costs, and the solution is what it was without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from .controllers import AdaptiveSteps
from .controllers.numbers import Numbers
from .costs import Cost, RunningCost, StepCost, WeightCost
from .errors import InputError
from .gradients import Direct, Gradient
from .integrate import Opening, Took, Watch, integrate
from .policies import Policy, Raise
from .problem import Path, Problem
from .solution import Charge
from .solvers import Solver
from .states import batch_size, leaves
from .terms import Stochastic, Term
from .terms.augmented import Augmented, bare
from .times import Array, Places
from .types import Carry, State, Tensor

__all__ = ["Bill"]


class Bill:
    """The costs of one solve.

    Args:
        costs: what to charge for.
        problem: the solve, as it is without.
        gradient: how it is differentiated.
        on_failure: what becomes of samples that fail.

    Raises:
        InputError: for costs of one name, and costs that do not go with the rest.
    """

    def __init__(self, costs: Sequence[Cost], problem: Problem, gradient: Gradient, on_failure: Policy) -> None:
        costs = _billed(costs) if costs else []
        self.running = [cost for cost in costs if isinstance(cost, RunningCost)]
        self.stepwise = [cost for cost in costs if isinstance(cost, StepCost)]
        self.weights = [cost for cost in costs if isinstance(cost, WeightCost)]
        self.order, self.bare, self.single = costs, problem, not isinstance(problem.y0, tuple)
        if costs:
            _check(costs, problem)
        if self.running:
            _check_running(self.running[0], problem)
        if self.stepwise:
            _check_stepwise(self.stepwise, problem.solver, gradient, on_failure)
        self._charges: dict[str, Tensor] = {}

    def charged(self) -> Problem:
        """The problem with running costs beside the state."""
        if not self.running:
            return self.bare
        p, leaf = self.bare, leaves(self.bare.y0)[0]
        zeros = [leaf.new_zeros(batch_size(p.y0), 1) for _ in self.running]
        term = Augmented(p.term, self.running, self.single)
        controller = p.controller
        if isinstance(controller, AdaptiveSteps):
            controller = _Ignoring(controller, len(zeros), self.single)
        return replace(p, term=term, y0=(*leaves(p.y0), *zeros), controller=controller)

    def integrate(self, gradient: Gradient, problem: Problem) -> Path:
        """Integrate; costs of steps are read as they are taken."""
        if not self.stepwise:
            return gradient.integrate(problem)
        meter = _Meter(self.stepwise, problem)
        path = integrate(problem, meter)
        self._charges |= {cost.name: total for cost, total in zip(self.stepwise, meter.totals, strict=True)}
        return path

    def settled(self, path: Path) -> Path:
        """The path without the costs, which its statistics name, each `(batch,)`, in the order they were given."""
        if self.running:
            parts, count = leaves(path.ys), len(self.running)
            for cost, leaf in zip(self.running, parts[-count:], strict=True):
                self._charges[cost.name] = self._last(leaf)[:, 0]
            path = replace(path, ys=bare(path.ys, count, self.single))
        for charge in self.weights:
            ts = [t for own in self.bare.lists() for t in own]
            self._charges[charge.name] = charge.of(self.bare.term, ts).expand(batch_size(self.bare.y0))
        path.stats.costs = tuple(Charge(cost.name, cost.weight, self._charges[cost.name]) for cost in self.order)
        return path

    def _last(self, leaf: Tensor) -> Tensor:
        """A leaf at the last time of each sample."""
        if not self.bare.ragged:
            return leaf[-1]
        last = self.bare.ts.offsets[1:] - 1  # type: ignore[union-attr]  # ragged times are those of samples
        return leaf[torch.as_tensor(last, device=leaf.device)]


def _billed(costs: Sequence[Cost]) -> list[Cost]:
    """The costs that count: those with a weight."""
    for cost in costs:
        if not isinstance(cost, RunningCost | StepCost | WeightCost):
            raise InputError(
                f"costs got {cost!r}; it needs a RunningCost, a StepCost or a WeightCost, such as Kinetic()"
            )
    return [cost for cost in costs if cost.weight]


class _Ignoring(AdaptiveSteps):
    """A controller that looks at the state alone, not at the costs beside it."""

    def __init__(self, controller: AdaptiveSteps, costs: int, single: bool) -> None:
        self.controller, self.costs, self.single = controller, costs, single
        self.joint, self.rtol, self.atol = controller.joint, controller.rtol, controller.atol
        self.dtmin, self.dtmax, self.step_ts = controller.dtmin, controller.dtmax, controller.step_ts

    def within(self, dtype: torch.dtype) -> AdaptiveSteps:
        """The same around the controller for a dtype."""
        return _Ignoring(self.controller.within(dtype), self.costs, self.single)

    def errors(self, error: State, y0: State, y1: State) -> Tensor:
        """Those of the state."""
        return self.controller.errors(*(bare(part, self.costs, self.single) for part in (error, y0, y1)))

    def first_steps(self, y0: State, f0: State, order: float, span: Array) -> Array:
        """Those of the state."""
        start, slope = (bare(part, self.costs, self.single) for part in (y0, f0))
        return self.controller.first_steps(start, slope, order, span)

    def factors(self, error: Numbers, last: Numbers, before: Numbers, order: float) -> Numbers:
        """The controller's."""
        return self.controller.factors(error, last, before, order)


class _Meter(Watch):
    """Looks on, and sums what each step costs."""

    def __init__(self, costs: Sequence[StepCost], problem: Problem) -> None:
        self.costs, self.solver = costs, problem.solver
        leaf = leaves(problem.y0)[0]
        self.totals = [leaf.new_zeros(batch_size(problem.y0)) for _ in costs]

    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """Nothing is charged yet."""

    def moved(self, took: Took) -> None:
        """Charge the rows that took the step."""
        leaf = leaves(took.y0)[0]
        lengths = torch.as_tensor(abs(took.end - took.start), dtype=leaf.dtype, device=leaf.device)
        for i, cost in enumerate(self.costs):
            charge = cost.of(self.solver, took.y0, took.step, lengths)
            if took.move.accept is not None:
                charge = torch.where(torch.as_tensor(took.move.accept, device=leaf.device), charge, 0.0)
            self.totals[i] = self.totals[i].index_add(0, _places(took.move.rows, charge), charge)


def _places(rows: Places | None, charge: Tensor) -> Tensor:
    return torch.arange(len(charge), device=charge.device) if rows is None else torch.as_tensor(rows).to(charge.device)


def _check(costs: Sequence[Cost], problem: Problem) -> None:
    names = [cost.name for cost in costs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"costs got {', '.join(twice)} twice; each may be charged once")
    if problem.events:
        raise InputError("costs got a solve with events, which change where a solve ends; leave out one of both")
    if not all(leaf.dim() for leaf in leaves(problem.y0)):
        raise InputError("costs got a state without a batch axis; give it one: y0[None]")


def _check_running(cost: Cost, problem: Problem) -> None:
    name, solver = cost.name, problem.solver
    if isinstance(problem.term, Stochastic):
        raise InputError(f"{name} got a stochastic term, whose running costs are not integrated; use an ordinary term")
    if solver.info.terms != (Term,) or solver.info.derivative != 1:
        raise InputError(
            f"{name} is integrated beside the state, and {type(solver).__name__} takes terms of one kind alone; use a "
            "solver for any term, such as RK4 or Dopri5"
        )


def _check_stepwise(costs: Sequence[StepCost], solver: Solver, gradient: Gradient, on_failure: Policy) -> None:
    for cost in costs:
        cost.suits(solver)
    if not isinstance(gradient, Direct):
        raise InputError(
            f"{costs[0].name} is made of the steps themselves, and the gradient {type(gradient).__name__} keeps none; "
            "use Direct"
        )
    if not isinstance(on_failure, Raise):
        raise InputError(
            f"{costs[0].name} goes with the policy Raise; {type(on_failure).__name__} solves samples twice"
        )
