"""Station: the network, where the whole course is asked for: one equation, and its solution at any times."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..compiling import Compile
from ..controllers import Controller
from ..costs import Cost
from ..gradients import Direct, Gradient
from ..policies import Policy, Raise
from ..regularizers import Regularizer
from ..saveat import SaveAt
from ..solvers import Solver
from ..solving import check_compatible, solve
from ..states import each
from ..types import Tensor
from .lift import Lift
from .stage import Block, ContinuousStage, regularize

__all__ = ["Trajectory"]


class Trajectory(nn.Module):
    """A neural ODE that is read along the way: du/dt = f(t, u) from a start, and what the head makes of u(t).

    With the lift `Augment` an augmented neural ODE, with `WithVelocity` and the field `SecondOrder` a second-order one.
    The times come with each batch, so that a trained network can be asked for others, later ones too.

    Args:
        field: makes the field for a number of channels, such as `MLP`.
        channels: channels of the features, which the lift makes a state of.
        solver: the integrator.
        controller: None steps exactly on the times asked for; `Constant(dt=…)` and `PID` choose steps of their own.
        lift: between features and state; None takes the features as the state.
        stem: from the input to features `(batch, channels, …)`; None takes the input as it is.
        head: from features to the output, at each time alike; None gives the features.
        gradient: how gradients go through the solve.
        regularizers: changes of the equation in training, such as `Steer`, made in order.
        costs: what the solve is charged for in training, such as `Kinetic`; tasks add it to the loss.
        dense: read the states off the solver's dense output: measured steps are then as long as the tolerance allows,
            however dense the times, and those states as exact as the polynomials are.
        max_steps: most steps that a sample may take.
        on_failure: what becomes of samples whose solve fails; `Freeze` makes their output NaN.
        compile: run the steps of solves as compiled graphs; None runs them eagerly.

    Raises:
        InputError: if the solver does not go with the controller or the gradient.
        ShapeError: from `forward`, if the features have other channels than stated.
    """

    def __init__(
        self,
        field: Block,
        channels: int,
        *,
        solver: Solver,
        controller: Controller | None = None,
        lift: Lift | None = None,
        stem: nn.Module | None = None,
        head: nn.Module | None = None,
        gradient: Gradient = Direct(),  # noqa: B008  a frozen value
        regularizers: Sequence[Regularizer] = (),
        costs: Sequence[Cost] = (),
        dense: bool = False,
        max_steps: int = 4096,
        on_failure: Policy = Raise(),  # noqa: B008  a frozen value
        compile: Compile | None = None,  # noqa: A002  as torch names it
    ) -> None:
        super().__init__()
        self.stage = ContinuousStage(field, channels, entry=stem, lift=lift)
        self.head = head or nn.Identity()
        self.solver, self.controller, self.gradient = solver, controller, gradient
        self.saveat, self.max_steps = SaveAt(dense=dense), max_steps
        self.on_failure, self.compiled, self.costs = on_failure, compile, tuple(costs)
        regularize(self.stage, regularizers)
        check_compatible(self.stage.term, solver, controller, gradient)

    def forward(self, x: Tensor, ts: Tensor) -> Tensor:
        """The output at each time, time first: `(time, batch, …)`.

        Args:
            x: the inputs, `(batch, …)`.
            ts: the times, the start among them: `(time,)`, or `(time, batch)` for each sample its own.
        """
        solution = solve(
            self.stage.term,
            self.stage.enter(x),
            ts,
            solver=self.solver,
            controller=self.controller,
            gradient=self.gradient,
            saveat=self.saveat,
            max_steps=self.max_steps,
            on_failure=self.on_failure,
            costs=self.costs if self.training else (),
            compile=self.compiled,
        )
        states = each(lambda leaf: leaf.flatten(0, 1), solution.ys)  # (time · batch, channels, …)
        return self.head(self.stage.leave(states)).unflatten(0, (len(ts), len(x)))  # type: ignore[no-any-return]
