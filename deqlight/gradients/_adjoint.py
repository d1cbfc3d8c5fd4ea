"""Station: the way back, as an equation of its own: the state, and the adjoint of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..integrate import Opening, Watch
from ..solvers import Solver
from ..states import leaves
from ..terms import Term
from ..terms.ode import OrdinaryTerm
from ..types import Carry, Hook, State, Tensor, Time
from ._shared import as_input, differentiable, refuse_undeclared

__all__ = ["Adjoint", "Call", "Ledger"]


class Call(NamedTuple):
    """One evaluation of the field: its argument, its value with its graph, and the adjoint there, leaf by leaf."""

    y: tuple[Tensor, ...]
    value: tuple[Tensor, ...]
    adjoint: tuple[Tensor, ...]
    tensors: Sequence[Tensor]
    """What it depends on besides, and needs a gradient."""


class Ledger(Watch, ABC):
    """Turns the evaluations of a solve into gradients of what the field depends on.

    A step adds Σ w f to the state, over its evaluations f; then −Σ w (∂f/∂p)ᵀ a is what it adds to the gradient of p,
    by the same quadrature as if p were part of the state. The weights are the solver's own; those of steps that are
    not taken are zero.
    """

    solver: Solver
    """The solver that evaluates for it."""

    def began(self, opening: Opening, y: State, carry: Carry) -> None:
        """Nothing is worth anything yet."""

    @abstractmethod
    def pull(self, call: Call) -> Sequence[Tensor | None]:
        """(∂f/∂y)ᵀ a, leaf by leaf, None for zero; keeps what is needed of the evaluation later."""

    def again(self, t: Time, y: tuple[Tensor, ...]) -> State | None:
        """The slopes at the state, if they are known."""
        return None

    def told(self, t: Time, y: tuple[Tensor, ...], call: Call, slopes: State) -> None:
        """What an evaluation came to."""


class Adjoint(OrdinaryTerm):
    """dy/dt = f(t, y), da/dt = −(∂f/∂y)ᵀ a, on states of the leaves of y followed by those of a.

    Args:
        term: the term of y.
        ledger: gets all evaluations.
        paired: whether y is a tuple of leaves; else it is one tensor.
        tensors: what the field depends on, and needs a gradient.
    """

    term: Term

    def __init__(self, term: Term, ledger: Ledger, paired: bool, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        self.term, self.ledger, self.paired, self.continuous = term, ledger, paired, term.continuous
        self.needs, self.known = tensors, set[tuple[int, ...]]()

    def vf(self, t: Time, y: State) -> State:
        """Both slopes at once: one evaluation of the field, and one product with its Jacobian."""
        parts = leaves(y)
        known = self.ledger.again(t, parts)
        if known is not None:
            return known
        half = len(parts) // 2
        with torch.enable_grad():
            inputs = tuple(as_input(leaf) for leaf in parts[:half])
            value = leaves(self.term.vf(t, inputs if self.paired else inputs[0]))
        self._look_at(inputs, value)
        call = Call(inputs, value, parts[half:], self.needs)
        pulled = self.ledger.pull(call)
        pairs = zip(parts[half:], pulled, strict=True)
        slopes = (*(leaf.detach() for leaf in value), *(a.new_zeros(a.shape) if g is None else -g for a, g in pairs))
        self.ledger.told(t, parts, call, slopes)
        return slopes

    def over(self, t0: Time, t1: Time) -> Adjoint:
        """The term of y over the step."""
        term = self.term.over(t0, t1)
        return self if term is self.term else self._replace(term=term, needs=differentiable(*term.tensors(t0, t1)))

    def afresh(self) -> Adjoint:
        """The same, for a solver that is to carry no evaluation over the end of a step."""
        return self._replace(continuous=False)

    def jumps(self, low: float, high: float) -> tuple[float, ...]:
        """The jumps of the field."""
        return self.term.jumps(low, high)

    def rows(self, index: Tensor) -> Adjoint:
        """The samples `index` alone."""
        with torch.enable_grad():  # a term may have data of each sample that need a gradient
            return self._replace(term=self.term.rows(index))

    def tensors(self, t0: Time, t1: Time) -> tuple[Tensor, ...]:
        """Those of the field."""
        return self.term.tensors(t0, t1)

    def wrap(self, hook: Hook) -> Adjoint:
        """The same with a hook around the field."""
        return self._replace(term=self.term.wrap(hook))

    def _look_at(self, inputs: Sequence[Tensor], value: Sequence[Tensor]) -> None:
        """Refuse a field that uses undeclared tensors; one look at each layer does."""
        key = tuple(map(id, self.needs))
        if key not in self.known:
            self.known.add(key)
            refuse_undeclared(value, [*inputs, *self.needs])
