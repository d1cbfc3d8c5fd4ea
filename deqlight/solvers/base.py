"""Station: the integrator. One `step` makes a solver; `info` says what it claims, the conformance kit measures it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..errors import InputError
from ..interpolation import hermite
from ..terms import Term
from ..types import Calculus, Carry, Noise, State, Tensor, Time

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["COMMUTATIVE", "Inner", "ReversibleSolver", "Solver", "SolverInfo", "Step"]


COMMUTATIVE: Mapping[Noise, float] = {"additive": 1.0, "diagonal": 1.0, "scalar": 1.0, "general": 0.5}
"""Strong orders of methods that know of the noise nothing but W: a path of general noise depends on its Lévy area."""


class Inner(NamedTuple):
    """How the inner iteration of a step went, sample by sample."""

    nfe: Tensor
    """All field evaluations of the step, `(batch,)` of int64 on the CPU: samples stop iterating when they are done."""
    converged: Tensor
    """Whether the iteration ended well, `(batch,)` of bool on the CPU."""

    @classmethod
    def join(cls, parts: Iterable[Inner | None]) -> Inner | None:
        """What several parts of a step cost together; None where none of them iterates."""
        told = [part for part in parts if part is not None]
        if not told:
            return None
        return cls(torch.stack([part.nfe for part in told]).sum(0), torch.stack([p.converged for p in told]).all(0))


class Step(NamedTuple):
    """What one step returns."""

    y: State
    """The solution at `t1`, shaped as `y0`."""
    carry: Carry = None
    """The solver's memory at `t1`: tensors (axis 0 is the batch) and Python numbers in (named) tuples."""
    error: State | None = None
    """The local error estimate, shaped as `y`; None without an embedded method."""
    slopes: tuple[State, ...] = ()
    """What `dense` makes the solution between the ends from: field values, in the solver's own order."""
    inner: Inner | None = None
    """How an inner iteration went; None where every sample costs the calls of the field that were made."""


@dataclass(frozen=True)
class SolverInfo:
    """What a solver claims. Every claim is measured by `deqlight.testing.check_solver`."""

    order: int
    """Order of convergence on smooth, non-stiff, non-autonomous problems; of solvers for `ReverseSDE`, that of the mean
    and the variance of samples of Gaussian data, where a corrector draws nothing."""
    nfe_step: int | None
    """Field evaluations per step once running; None for iterative solvers, where they vary."""
    nfe_start: int = 0
    """Field evaluations that starting costs in all, over and above `nfe_step` a step."""
    error_order: int | None = None
    """Order of the local error estimate (the power of the step it shrinks with); None without an estimate."""
    stiff_order: int | None = None
    """Order on Prothero and Robinson's problem at λ = −10⁶, for methods that are stable there; None for others."""
    dense_order: int | None = None
    """Order of convergence of the solution between the ends of steps; None for that of the cubic Hermite polynomial,
    the lesser of `order` and 4."""
    stability: float | None = None
    """How far the method is stable on y' = λy along the negative axis: |R(hλ)| <= 1 for −stability <= hλ <= 0; `inf`
    for A-stable methods, None where nothing is claimed."""
    steps: int = 1
    """How many steps a step knows of: 1 for one-step methods, which can begin anew at any time at no cost."""
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
    smooth_steps: bool = False
    """Orders are those on grids whose steps change gradually in length: the weights are those of equal steps."""
    calculus: Calculus | None = None
    """For stochastic terms, whose equation it solves: in Itô's or in Stratonovich's sense; None integrates none."""
    strong_order: Mapping[Noise, float] = field(default_factory=dict, hash=False)
    """Strong order of convergence on stochastic terms (of the error of each path), by noise; other noise is refused."""
    weak_order: float | None = None
    """Weak order of convergence on stochastic terms (of the error of moments); None where nothing is claimed."""
    area: int = 0
    """What it asks of a Brownian path besides W: `brownian.SPACE_TIME` its time integral, `LEVY` its Lévy area too."""
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

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """The solution between the ends of a step: coefficients of a polynomial in (t − t0)/(t1 − t0), lowest first.

        This one is Hermite's cubic, from the states and the field at both ends (two evaluations). `term` is that of
        the step, `step` what `step` returned.

        Raises:
            InputError: for methods whose field is an acceleration, which say nothing of the velocity.
        """
        if self.info.derivative != 1:
            raise InputError(f"{self!r} has no dense output, it knows no velocities; ask for the states at ts alone")
        control = term.control(t0, t1)
        rates = [term.prod(term.vf(t, y), control) for t, y in ((t0, y0), (t1, step.y))]
        return hermite(y0, step.y, *rates)

    def within(self, rtol: float, atol: float | Tensor) -> Solver:
        """The solver for a solve with these tolerances; itself, unless it iterates and stops by them."""
        return self

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

    @property
    def contraction(self) -> float:
        """The factor, at most 1, that a step shrinks its memory by: undoing it makes rounding larger by the inverse."""
        return 1.0

    @abstractmethod
    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse of `step`: from the state and memory at `t1`, those at `t0`."""
