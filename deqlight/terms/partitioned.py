"""Station: the right-hand side of a system in two halves, as reversible and Hamiltonian networks have it."""

from __future__ import annotations

from torch import nn

from ..states import leaves
from ..types import FieldFn, Hook, State, Tensor, Time
from .base import Term
from .ode import ODETerm, OrdinaryTerm

__all__ = ["Partitioned"]


class Partitioned(OrdinaryTerm):
    """dq/dt = velocity(t, p), dp/dt = force(t, q) on the state `(q, p)`.

    `SymplecticEuler` on two layered halves is RevNet (Gomez et al. 2017); with energy gradients it is a Hamiltonian
    network. An evaluation of one half counts as one field evaluation.

    Args:
        velocity: dq/dt as a function of p: a term, or a field `(t, p) -> dq/dt` shaped as q.
        force: dp/dt as a function of q: a term, or a field `(t, q) -> dp/dt` shaped as p.
    """

    def __init__(self, velocity: Term | FieldFn | nn.Module, force: Term | FieldFn | nn.Module) -> None:
        super().__init__()
        self.velocity = velocity if isinstance(velocity, Term) else ODETerm(velocity)
        self.force = force if isinstance(force, Term) else ODETerm(force)
        self.continuous = self.velocity.continuous and self.force.continuous

    def vf(self, t: Time, y: State) -> State:
        """Both halves at once: `(dq/dt, dp/dt)`."""
        q, p = leaves(y)
        return self.velocity.vf(t, p), self.force.vf(t, q)

    def over(self, t0: Time, t1: Time) -> Partitioned:
        """Both halves over the step; layered halves choose their layer."""
        velocity, force = self.velocity.over(t0, t1), self.force.over(t0, t1)
        if velocity is self.velocity and force is self.force:
            return self
        return self._halves(velocity, force)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The jumps of either half."""
        return (*self.velocity.jumps(low, high), *self.force.jumps(low, high))

    def rows(self, index: Tensor) -> Partitioned:
        """Both halves for the samples `index` alone."""
        return self._halves(self.velocity.rows(index), self.force.rows(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """The tensors of both halves."""
        return (*self.velocity.tensors(t0, t1), *self.force.tensors(t0, t1))

    def wrap(self, hook: Hook) -> Partitioned:
        """The same pair with `hook` around the fields of both halves."""
        return self._halves(self.velocity.wrap(hook), self.force.wrap(hook))

    def _halves(self, velocity: Term, force: Term) -> Partitioned:
        return self._replace(_modules={"velocity": velocity, "force": force})
