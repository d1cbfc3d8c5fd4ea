"""Station: the integrator. Additive methods: one part of the field stepped explicitly, the stiff part implicitly."""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np
import torch

from ..states import combine
from ..terms import Semilinear, Split, Term
from ..types import Carry, State, Time
from .base import SolverInfo, Step
from .esdirk import Diagonal, extension
from .implicit import ImplicitSolver
from .stages import Stages, weighted

__all__ = ["IMEXEuler", "KenCarp4"]


class IMEXEuler(ImplicitSolver):
    """The implicit-explicit Euler method, y₁ = y₀ + h (f(t₀, y₀) + g(t₁, y₁)) for dy/dt = f(t, y) + g(t, y).

    Order 1, one explicit and one implicit stage; one evaluation of the explicit part f, and one of the stiff part g an
    iteration; none of a linear part whose `resolvent` is known, for which nothing iterates. Not to be confused with
    `SymplecticEuler`, which takes one half of the state after the other.

    Reference: Ascher, Ruuth & Wetton, SIAM J. Numer. Anal. 32 (1995), eq. 8 (1-step IMEX).
    """

    info = SolverInfo(
        order=1,
        nfe_step=None,
        stiff_order=1,
        dense_order=1,
        terms=(Split,),
        reference="Ascher, Ruuth & Wetton 1995",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the explicit part, then the equation for the implicit one."""
        split = cast(Split, term)
        resolvent = split.flow.resolvent(t1 - t0) if isinstance(split, Semilinear) else None
        if resolvent is not None:
            easy = split.explicit
            return Step(resolvent(easy.advance(y0, [1.0], [easy.vf(t0, y0)], easy.control(t0, t1))))
        stages = Stages(self.newton, term, t0, t1, y0)
        base = stages.y0 + stages.explicit(0.0, stages.y0, split.explicit)
        one = torch.ones(1, 1, dtype=base.dtype, device=base.device)
        u, _ = stages.implicit((1.0,), base, one, term=split.implicit)
        return Step(stages.layout.state(base + u[:, 0]), inner=stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The straight line between the ends; no evaluations."""
        return y0, combine([-1.0, 1.0], [y0, step.y])


_B = (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 0.25)
_NODES = (0.0, 1 / 2, 83 / 250, 31 / 50, 17 / 20, 1.0)


class KenCarp4(ImplicitSolver):
    """The additive method ARK4(3)6L[2]SA of Kennedy and Carpenter, an explicit and a diagonally implicit one in step.

    Order 4 with an embedded pair of order 3, six stages; six evaluations of the explicit part, one of the stiff part,
    and one an iteration of each of its five implicit stages, which share a Jacobian. The implicit method is L-stable
    and stiffly accurate; both together are not, and on stiff problems the order falls, at the end to 1.
    Not to be confused with `Kvaerno5`, which has no explicit partner.

    Reference: Kennedy & Carpenter, Additive Runge–Kutta Schemes, Appl. Numer. Math. 44 (2003), Appendix C.
    """

    implicit = Diagonal(
        gamma=0.25,
        c=_NODES,
        a=(
            (),
            (0.25,),
            (8611 / 62500, -1743 / 31250),
            (5012029 / 34652500, -654441 / 2922500, 174375 / 388108),
            (15267082809 / 155376265600, -71443401 / 120774400, 730878875 / 902184768, 2285395 / 8070912),
            _B[:-1],
        ),
        b_error=(
            _B[0] - 4586570599 / 29645900160,
            0.0,
            _B[2] - 178811875 / 945068544,
            _B[3] - 814220225 / 1159782912,
            _B[4] + 3700637 / 11593932,
            _B[5] - 61727 / 225920,
        ),
    )
    explicit = (
        (),
        (1 / 2,),
        (13861 / 62500, 6889 / 62500),
        (-116923316275 / 2393684061468, -2731218467317 / 15368042101831, 9408046702089 / 11113171139209),
        (
            -451086348788 / 2902428689909,
            -2682348792572 / 7519795681897,
            12662868775082 / 11960479115383,
            3355817975965 / 11060851509271,
        ),
        (
            647845179188 / 3216320057751,
            73281519250 / 8382639484533,
            552539513391 / 3454668386233,
            3354512671639 / 8306763924573,
            4040 / 17871,
        ),
    )
    info = SolverInfo(
        order=4,
        nfe_step=None,
        error_order=4,
        dense_order=4,
        terms=(Split,),
        reference="Kennedy & Carpenter 2003",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: at each stage the implicit part is solved for, then the explicit one evaluated."""
        split, stages, tableau = cast(Split, term), Stages(self.newton, term, t0, t1, y0), self.implicit
        y, state = stages.y0, stages.layout.state
        gamma = torch.full((1, 1), tableau.gamma, dtype=y.dtype, device=y.device)
        f, g = ([stages.explicit(0.0, y, part)] for part in (split.explicit, split.implicit))
        z, inverse = [y], None
        for node, own, other, guess in zip(
            tableau.c[1:], tableau.a[1:], self.explicit[1:], tableau.guesses[1:], strict=True
        ):
            base = weighted(other, f, weighted(own, g, y))
            u, inverse = stages.implicit((node,), base, gamma, weighted(guess, z)[:, None], inverse, split.implicit)
            g.append(u[:, 0])
            z.append(torch.add(base, g[-1], alpha=tableau.gamma))
            f.append(stages.explicit(node, z[-1], split.explicit))
        both = [a + b for a, b in zip(f, g, strict=True)]
        error = state(weighted(tableau.b_error or (), both))
        slopes = tuple(state(stage) for stage in both)
        return Step(state(weighted(_B, both, y)), None, error, slopes, stages.inner())

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """A continuous extension of both methods; no evaluations. `step.slopes` are the increments of both parts."""
        return y0, *(combine(weights, step.slopes) for weights in self.between)

    @cached_property
    def between(self) -> tuple[tuple[float, ...], ...]:
        """For each power of θ from the first, the weight of each stage in the solution between the ends."""
        explicit = np.array([[*row, *[0.0] * (len(_NODES) - i)] for i, row in enumerate(self.explicit)])
        return extension([self.implicit.matrix, explicit], _B, _NODES, 3)
