"""Station: where a residual vanishes. How it is looked for, and what is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from ..errors import InputError
from ..linear import Factorised, Inverse, Krylov, Linearisation
from ..types import Tensor

__all__ = ["FRACTION", "Map", "Newton", "Root"]

Map: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""`g(z, index)`, `z` and the result `(rows, stages, n)`, of the samples `index` `(rows,)` of the batch; None: all."""

FRACTION, TRIES = 0.01, 12
"""Share of a step's tolerance that the iteration may leave; most iterations, where a shorter step is the remedy."""


class Root(NamedTuple):
    """What an iteration found."""

    u: Tensor
    """The root, `(batch, stages, n)`, without a graph; where the search failed, how far it came, NaN where g is NaN."""
    evaluations: Tensor
    """Evaluations of g for each sample, `(batch,)` of int64 on the CPU."""
    converged: Tensor
    """`(batch,)` of bool on the CPU."""
    inverse: Factorised | None
    """The last factorisation of each sample, for the next equation; None where there is none."""
    differentiable: bool
    """Whether autograd was on and g depends on more that needs a gradient than its argument."""


@dataclass(frozen=True)
class Newton:
    """Newton's method with a frozen Jacobian while that contracts well, and damped steps where it does not.

    Samples that are done leave, so that none depends on another and each costs its own evaluations. Damping is by the
    natural monotonicity test. Jacobians are factorised for at most `dense` unknowns of a sample, above GMRES solves.

    Args:
        dense: most unknowns of a sample (numbers times coupled stages) that are solved for by factorisation.
        max_iterations: most evaluations of g for one root.
        rtol: relative tolerance of the step that the root is for; None for none: iterate down to rounding.
        atol: absolute tolerance of the step; a tensor broadcasts against the state.

    Raises:
        InputError: for a negative size, or no iterations.

    Reference: Deuflhard, Newton Methods for Nonlinear Problems, 2004, §2.1 and §3.3; Hairer & Wanner, Solving Ordinary
    Differential Equations II, §IV.8.
    """

    dense: int = 64
    max_iterations: int = 50
    rtol: float | None = None
    atol: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if self.dense < 0 or self.max_iterations < 1:
            raise InputError(
                f"Newton's method got dense={self.dense}, max_iterations={self.max_iterations}; it needs dense >= 0 "
                "and max_iterations >= 1"
            )

    def within(self, rtol: float, atol: float | Tensor) -> Newton:
        """The iteration for steps with these tolerances, which gives up earlier: a shorter step is the remedy."""
        return replace(self, rtol=rtol, atol=atol, max_iterations=min(self.max_iterations, TRIES))

    def tolerance(self, atol: Tensor, y0: Tensor) -> Tensor:
        """What a root may be wrong by, besides its own size times `rtol`, where the step begins at `y0`."""
        return FRACTION * (atol + (self.rtol or 0.0) / 2 * y0.abs())

    def factorises(self, z: Tensor) -> bool:
        """Whether equations of this shape, `(batch, stages, n)`, are solved by factorisation."""
        return z.shape[1] * z.shape[2] <= self.dense

    def inverse(self, at: Linearisation, a: Tensor, within: float) -> Inverse:
        """The inverse of 1 − a ∂g/∂z at a linearisation: factorised, or by GMRES to a relative residual."""
        return Factorised.of(at.jacobians(), a) if self.factorises(at.z) else Krylov(at, a, within)
