"""Station: the right-hand side of a system in two halves, as reversible and Hamiltonian networks have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..brownian import Grid
from ..states import leaves
from ..types import FieldFn, State, Time
from .base import Term
from .compound import Compound

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Partitioned"]


class Partitioned(Compound):
    """dq/dt = velocity(t, p), dp/dt = force(t, q) on the state `(q, p)`, two tensors of one shape.

    `SymplecticEuler` on two layered halves is RevNet (Gomez et al. 2017); with energy gradients it is a Hamiltonian
    network. An evaluation of one half counts as one field evaluation.

    Args:
        velocity: dq/dt as a function of p: a term, or a field `(t, p) -> dq/dt` shaped as q.
        force: dp/dt as a function of q: a term, or a field `(t, q) -> dp/dt` shaped as p.
    """

    velocity: Term
    force: Term

    def __init__(self, velocity: Term | FieldFn | nn.Module, force: Term | FieldFn | nn.Module) -> None:
        super().__init__(velocity=velocity, force=force)

    def drawn(self, y0: State, grid: Grid, area: int) -> Self:
        """Both halves for one solve; each sees the half of the state that it is a function of."""
        q, p = leaves(y0)
        return self._with([self.velocity.drawn(p, grid, area), self.force.drawn(q, grid, area)])

    def vf(self, t: Time, y: State) -> State:
        """Both halves at once: `(dq/dt, dp/dt)`."""
        q, p = leaves(y)
        return self.velocity.vf(t, p), self.force.vf(t, q)
