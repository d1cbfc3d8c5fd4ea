"""Station: the integrator. One `step` makes a solver; `info` says what it claims, the conformance kit measures it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..terms import Term
from ..types import Carry, State, Tensor, Time

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ReversibleSolver", "Solver", "SolverInfo", "Step"]


class Step(NamedTuple):
    """What one step returns."""

    y: State
    """The solution at `t1`, shaped as `y0`."""
    carry: Carry = None
    """The solver's memory at `t1`: tensors (axis 0 is the batch) and Python numbers in (named) tuples."""
    error: State | None = None
    """The local error estimate, shaped as `y`; None without an embedded method."""


@dataclass(frozen=True)
class SolverInfo:
    """What a solver claims. Every claim is measured by `deqlight.testing.check_solver`."""

    order: int
    """Order of convergence on smooth, non-stiff, non-autonomous problems."""
    nfe_step: int | None
    """Field evaluations per step once running; None for iterative solvers, where they vary."""
    nfe_start: int = 0
    """Field evaluations that starting costs in all, over and above `nfe_step` a step."""
    error_order: int | None = None
    """Order of the local error estimate (the power of the step it shrinks with); None without an estimate."""
    derivative: int = 1
    """What the field is: 1 for dy/dt = f(t, y), 2 for d²y/dt² = F(t, y)."""
    fsal: bool = False
    """The last stage of a step is the first of the next."""
    continuous_field: bool = False
    """Carries an evaluation over the end of a step where the term is continuous (else evaluates anew)."""
    reversible: bool = False
    """Has an exact algebraic inverse, `unstep`."""
    symplectic: bool = False
    """Preserves the symplectic form on Hamiltonian problems."""
    uniform_steps: bool = False
    """All steps of a solve must have one length."""
    terms: tuple[type[Term], ...] = (Term,)
    """The kinds of term it integrates."""
    reference: str = ""
    """Where the method is published."""


class Solver(ABC):
    """An integrator: a new one is a class with `info` and `step`, and nothing else.

    `step` gets the ends of a step, not its length, and a term already fixed over that step (`Term.over`). Use
    `term.vf`, `term.control` and `term.advance`; then the solver works on every state and every kind of term.
    """

    info: SolverInfo

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The memory at the start of a solve from `t0` to `t1` at `y0`; None unless the method needs one."""
        return None

    @abstractmethod
    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step from `y0` at `t0` to `t1`."""

    def bind(self, layers: int, channels: int) -> Solver:
        """The solver for one stage of a network, `layers` steps deep and `channels` wide; a stage owns its copy."""
        return copy.deepcopy(self)

    def tensors(self) -> tuple[Tensor, ...]:
        """The solver's own learnable coefficients."""
        return ()

    def __repr__(self) -> str:
        return type(self).__name__

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """The instances whose claims the conformance kit measures."""
        return (cls(),)


class ReversibleSolver(Solver):
    """A solver whose step can be undone exactly, which gives gradients whose memory does not grow with depth."""

    @abstractmethod
    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse of `step`: from the state and memory at `t1`, those at `t0`."""
