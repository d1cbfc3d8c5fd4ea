"""Station: the network. Depth is time: between stem and head, features are moved by differential equations."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..compiling import Compile
from ..controllers import Controller, FixedSteps
from ..costs import Cost
from ..errors import InputError, StatisticsWarning
from ..gradients import Direct, Gradient
from ..policies import Policy, Raise
from ..regularizers import Regularizer
from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import check_compatible, solve
from ..terms import Partitioned
from ..types import Tensor, Time
from .stage import Stage, regularize

__all__ = ["DepthNet"]


class DepthNet(nn.Module):
    """Stem, stages, head. Each stage is an equation on a depth grid, and the solver makes it an architecture.

    Layered stages by `Euler` are a ResNet, by `LinearTwoStep` an LM-ResNet, by `Leapfrog` a MidPoint network, by any
    other integrator a network of its own; partitioned ones by `SymplecticEuler` a RevNet; continuous ones a neural ODE.

    Args:
        stem: from the input to features `(batch, channels, …)`.
        stages: the equations, in order.
        head: from features to the output.
        solver: the integrator of all stages; each stage has its own copy, with coefficients of its own.
        controller: None steps exactly on the depth grid, one step a layer; `Constant(steps=2)` makes the network twice
            as deep with half the step; `PID` chooses the steps of continuous stages.
        gradient: how gradients go through the stages.
        regularizers: changes of every stage's equation in training, such as `StochasticDepth`, made in order.
        costs: what every stage's solve is charged for in training, such as `Kinetic`; tasks add it to the loss.
        max_steps: most steps that a sample may take in a stage.
        on_failure: what becomes of samples whose solve fails; `Freeze` makes their output NaN.
        compile: run the steps of solves as compiled graphs; None runs them eagerly.

    Raises:
        InputError: if the solver does not go with a stage, the controller or the gradient.
        StatisticsWarning: a warning, where BatchNorm stands in a field that is evaluated more than once a layer.
        ShapeError: from `forward`, if a stage gets another number of channels than it was made for.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Stage],
        head: nn.Module,
        *,
        solver: Solver,
        controller: Controller | None = None,
        gradient: Gradient = Direct(),  # noqa: B008  a frozen value
        regularizers: Sequence[Regularizer] = (),
        costs: Sequence[Cost] = (),
        max_steps: int = 4096,
        on_failure: Policy = Raise(),  # noqa: B008  a frozen value
        compile: Compile | None = None,  # noqa: A002  as torch names it
    ) -> None:
        super().__init__()
        if not stages:
            raise InputError("DepthNet got no stages; it needs at least one")
        self.stem, self.stages, self.head = stem, nn.ModuleList(stages), head
        self.controller, self.gradient, self.max_steps = controller, gradient, max_steps
        self.on_failure, self.compiled, self.costs = on_failure, compile, tuple(costs)
        for stage in stages:
            regularize(stage, regularizers)
            check_compatible(stage.term, solver, controller, gradient)
            _check_statistics(stage, solver, controller)
        self.solvers = [solver.bind(_steps(stage, controller), stage.channels) for stage in stages]
        learnable = (solver for solver in self.solvers if isinstance(solver, nn.Module))
        self.coefficients = nn.ModuleList(learnable)  # so that an optimiser finds them

    def forward(self, x: Tensor) -> Tensor:
        """The output for a batch of inputs `(batch, …)`; for a classifier, scores `(batch, classes)`."""
        return self.head(self.features(x))  # type: ignore[no-any-return]  # a module's call is untyped

    def features(self, x: Tensor) -> Tensor:
        """What the head sees of a batch of inputs `(batch, …)`: `(batch, channels, …)`."""
        x = self.stem(x)
        for stage, solver in zip(cast("Iterable[Stage]", self.stages), self.solvers, strict=True):
            y0 = stage.enter(x)
            solution = solve(
                stage.term,
                y0,
                stage.ts,
                solver=solver,
                controller=self.controller,
                gradient=self.gradient,
                saveat=FINAL,
                max_steps=self.max_steps,
                on_failure=self.on_failure,
                costs=self.costs if self.training else (),
                compile=self.compiled,
            )
            x = stage.leave(solution.y1)
        return x


FINAL = SaveAt(final=True)
"""A network passes on the last state of each stage."""


def _check_statistics(stage: Stage, solver: Solver, controller: Controller | None) -> None:
    """Warn where BatchNorm would have running statistics of one evaluation, and use them for several."""
    term, halves = stage.term, 2 if isinstance(stage.term, Partitioned) else 1
    once = solver.info.nfe_start == 0 and solver.info.nfe_step == halves and not term.continuous
    once = once and _steps(stage, controller) == _steps(stage, None)
    if not once and any(isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in term.modules()):
        warnings.warn(
            f"{type(solver).__name__} evaluates a field more than once in a solve here, and the field has BatchNorm: "
            "its running statistics are those of the first evaluation, eval() uses them for all, and the network will "
            "score far worse than in training, often no better than chance; use GroupNorm2d",
            StatisticsWarning,
            stacklevel=3,
        )


def step_times(stage: Stage, controller: Controller | None) -> Sequence[Time]:
    """The times of a stage's steps; for measured steps, those that it must not step over."""
    return controller.grid(stage.ts)[0] if isinstance(controller, FixedSteps) else stage.ts


def _steps(stage: Stage, controller: Controller | None) -> int:
    """How many steps a stage takes; for measured steps, how many intervals."""
    return len(step_times(stage, controller)) - 1
