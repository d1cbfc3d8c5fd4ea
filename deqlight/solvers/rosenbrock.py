"""Station: the integrator. Rosenbrock methods: implicit, and yet nothing to iterate, for they are linearised."""

from __future__ import annotations

from math import inf

import torch

from ..linear import Inverse, Krylov, solved
from ..states import combine
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from .base import SolverInfo, Step
from .implicit import ImplicitSolver
from .stages import Stages, weighted

__all__ = ["Rodas4"]

GAMMA = 0.25
NODES = (0.0, 0.386, 0.21, 0.63, 1.0)
SHIFTS = (0.25, -0.1043, 0.1035, -0.0362, 0.0)
"""Weights of the derivative in time, γ_i; those of the last two stages vanish."""

VALUES = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
)
COUPLING = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
)
DENSE = (
    (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662),
    (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872),
)
"""The coefficients of the code RODAS, method 1 (Hairer & Wanner §IV.7): a_ij, c_ij and those of its dense output."""

SHARE, TIGHT, LOOSE = 1e-2, 0.7, 0.5
"""Relative residual of GMRES: this share of `rtol`, or eps to this power; a stage fails above eps to that power."""

BASELINE = 0.2
"""Differences in time are over eps to this power of the step: truncated at its square, rounded at its inverse."""


class Rodas4(ImplicitSolver):
    """The Rosenbrock method of the code RODAS, order 4 with an embedded one of order 3.

    (1 − γhJ) u_i = γ (h f(t₀ + α_i h, y₀ + Σ a_ij u_j) + Σ c_ij u_j + γ_i h² ∂f/∂t), with one Jacobian J = ∂f/∂y at
    the start. Order 4, six stages; eight evaluations a step, two of them for ∂f/∂t, by a difference inside the step.
    L-stable and stiffly accurate; order 1 on stiff problems whose solution is forced. Gradients go through the
    Jacobian, too; first derivatives alone. Not to be confused with ROS4, nor with W methods, which keep their order
    with any J.

    Args:
        dense: most numbers of a sample whose equations are factorised; above, they are solved by GMRES, without a
            Jacobian.

    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.7.
    """

    info = SolverInfo(
        order=4,
        nfe_step=8,
        error_order=4,
        stiff_order=1,
        dense_order=4,
        stability=inf,
        reference="Hairer & Wanner 1996, §IV.7",
    )

    def __init__(self, dense: int = 64) -> None:
        super().__init__(dense)

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the stages in order, each a linear system with the same matrix."""
        stages = Stages(self.newton, term, t0, t1, y0)
        system, state, y = _System(self, stages), stages.layout.state, stages.y0
        shift = self._shift(stages, system.start)
        u = [system.solve(GAMMA * (system.start + SHIFTS[0] * shift))]
        for node, row, coupling, weight in zip(NODES[1:], VALUES[1:], COUPLING[1:5], SHIFTS[1:], strict=True):
            y = weighted(row, u, stages.y0)
            right = weighted(coupling, u, stages.explicit(node, y))
            u.append(system.solve(GAMMA * (right + weight * shift if weight else right)))
        y = y + u[-1]
        error = system.solve(GAMMA * weighted(COUPLING[5], u, stages.explicit(1.0, y)))
        slopes = tuple(state(weighted(row, u)) for row in DENSE)
        return Step(state(y + error), None, state(error), slopes, stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The method's own cubic; no evaluations. `step.slopes` are what bends it."""
        second, third = step.slopes
        linear = combine([-1.0, 1.0, 1.0], [y0, step.y, second])
        return y0, linear, combine([-1.0, 1.0], [second, third]), combine([-1.0], [third])

    def _shift(self, stages: Stages, start: Tensor) -> Tensor:
        """h² ∂f/∂t at the start: by the parabola through three times, all in the step, where the field is smooth."""
        width: float = stages.layout.eps**BASELINE
        near, far = (stages.explicit(times * width, stages.y0) - start for times in (1, 2))
        return (4 * near - far) / (2 * width)


class _System:
    """The linear system of a step, (1 − γhJ) u = r, differentiable in J as well."""

    def __init__(self, solver: Rodas4, stages: Stages) -> None:
        y, rtol = stages.y0, solver.newton.rtol
        self.stages, self.at = stages, stages.linearised()
        self.differentiable = torch.is_grad_enabled() and (y.requires_grad or self.at.depends_on_more())
        self.start = self.at.value[:, 0] if self.differentiable else self.at.value[:, 0].detach()
        within = max(stages.layout.eps**TIGHT, SHARE * (rtol or 0.0))
        a = torch.full((1, 1), GAMMA, dtype=y.dtype, device=y.device)
        self.inverse: Inverse = solver.newton.inverse(self.at, a, within)
        self.most = max(stages.layout.eps**LOOSE, within)

    def solve(self, r: Tensor) -> Tensor:
        """u, `(batch, n)`; with its graph where there is one: a Newton step from u, which vanishes."""
        with torch.no_grad():
            u = self.inverse.solve(r.detach()[:, None])
        if isinstance(self.inverse, Krylov):
            self.stages.converged &= ~(self.inverse.left > self.most).cpu()
        if not self.differentiable:
            return u[:, 0]
        residual = u - GAMMA * self.at.pushed(u, create_graph=True) - r[:, None]
        return (u - solved(residual, self.inverse))[:, 0]
