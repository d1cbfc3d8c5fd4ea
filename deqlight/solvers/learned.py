"""Station: the integrator whose coefficients are learnt: a Runge–Kutta method, consistent whatever it learns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import InputError
from ..terms import Term
from ..types import Carry, State, Tensor, Time
from .base import Solver, SolverInfo, Step
from .explicit import RK4, ExplicitRungeKutta, Heun, cubic

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LearnedRungeKutta"]

BENT = 0.1
"""How far the examples move their coefficients, as training would."""


class LearnedRungeKutta(Solver, nn.Module):
    """An explicit Runge–Kutta method whose coefficients are parameters: a_ij, and b_i with Σ b_i = 1. RKCNN.

    It begins as a known method; nodes are c_i = Σ a_ij, and the weights b are shifted to sum to 1, so that it stays of
    order 1 whatever it learns. As many evaluations a step as stages, all of the same field with the same weights. A
    stage of a network has a method of its own, shared by its layers. Not to be confused with `ReversiblePair`, which
    may be put around it, nor with networks that have other weights at each stage, which are no Runge–Kutta methods.

    Args:
        start: the explicit Runge–Kutta method that it begins as.

    Raises:
        InputError: if `start` is no explicit Runge–Kutta method.

    Reference: Zhu, Chang & Fu, Convolutional Neural Networks Combined with Runge–Kutta Methods, Neural Comput. Appl.
    2022 (arXiv 1802.08831).
    """

    def __init__(self, start: Solver = RK4()) -> None:  # noqa: B008  it has no state
        super().__init__()
        if not isinstance(start, ExplicitRungeKutta):
            raise InputError(
                f"LearnedRungeKutta got {start!r} to begin with; it needs an explicit Runge–Kutta method, such as "
                "Heun or RK4"
            )
        tableau = start.tableau
        self.start, self.stages = start, tableau.stages
        self.a = nn.Parameter(torch.tensor([w for row in tableau.a for w in row]))
        self.b = nn.Parameter(torch.tensor(tableau.b))
        self.info = SolverInfo(
            order=1,
            nfe_step=tableau.stages,
            dense_order=1,
            reference="Zhu, Chang & Fu 2022, arXiv 1802.08831",
        )

    def __repr__(self) -> str:
        return f"LearnedRungeKutta({self.start!r})"

    @property
    def weights(self) -> Tensor:
        """The weights b of the solution, `(stages,)`; they sum to 1."""
        return self.b + (1.0 - self.b.sum()) / self.stages

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step: the stages in order, then the solution."""
        control, length = term.control(t0, t1), t1 - t0
        stages = [term.vf(t0, y0)]
        ends = list(accumulate(range(self.stages), initial=0))  # where the rows of the triangle end
        for low, high in pairwise(ends[1:]):
            row = self.a[low:high]
            stages.append(term.vf(t0 + row.sum() * length, term.advance(y0, list(row), stages, control)))
        y1 = term.advance(y0, list(self.weights), stages, control)
        return Step(y1, slopes=tuple(stages))

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """Hermite's cubic, from the states and the field at both ends; one evaluation."""
        return cubic(term, t0, t1, y0, step)

    def tensors(self) -> tuple[Tensor, ...]:
        """The coefficients."""
        return self.a, self.b

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """Methods that have moved away from those they began as."""
        found = cls(Heun()), cls(RK4())
        with torch.no_grad():
            for method in found:
                for p in method.parameters():
                    p.add_(BENT * torch.cos(torch.arange(len(p))))
        return found
