"""Station: the integrator. Methods for partitioned systems: each half moves by the other, and can be moved back."""

from __future__ import annotations

from typing import cast

from ..states import leaves
from ..terms import Partitioned, Term
from ..types import Carry, State, Tensor, Time
from .base import ReversibleSolver, SolverInfo, Step

__all__ = ["SymplecticEuler", "Verlet"]


class SymplecticEuler(ReversibleSolver):
    """The symplectic Euler method: q₁ = q₀ + h v(t₀, p₀), then p₁ = p₀ + h F(t₁, q₁) at the new q.

    Order 1, one evaluation of each half a step (two in all), reversible, symplectic on Hamiltonian systems. On two
    layered halves it is RevNet. Not to be confused with `Euler`, which moves both halves by the old state.

    Reference: Hairer, Lubich & Wanner, Geometric Numerical Integration, §I.1.2; Gomez et al. 2017 (arXiv 1707.04585).
    """

    info = SolverInfo(
        order=1,
        nfe_step=2,
        reversible=True,
        symplectic=True,
        terms=(Partitioned,),
        reference="de Vogelaere 1956; Gomez et al. 2017, arXiv 1707.04585",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step of the pair `(q, p)`."""
        pair, (q, p), control = cast(Partitioned, term), _halves(y0), term.control(t0, t1)
        q = term.advance(q, [1.0], [pair.velocity.vf(t0, p)], control)
        p = term.advance(p, [1.0], [pair.force.vf(t1, q)], control)
        return Step(_pair(q, p))

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: first p, then q."""
        pair, (q, p), control = cast(Partitioned, term), _halves(y1), term.control(t0, t1)
        p = term.advance(p, [-1.0], [pair.force.vf(t1, q)], control)
        q = term.advance(q, [-1.0], [pair.velocity.vf(t0, p)], control)
        return Step(_pair(q, p))


class Verlet(ReversibleSolver):
    """The velocity form of Störmer and Verlet's method: half a kick, a drift, half a kick.

    p½ = p₀ + h/2 F(t₀, q₀), q₁ = q₀ + h v(t₀ + h/2, p½), p₁ = p½ + h/2 F(t₁, q₁). Order 2, symmetric, reversible,
    symplectic on Hamiltonian systems; one evaluation of each half a step (the second kick is the next step's first),
    three on layered terms, where the next layer's force is another. Not to be confused with `Stormer`, which knows
    positions alone.

    Reference: Hairer, Lubich & Wanner, Acta Numerica 12 (2003), eq. 1.5.
    """

    info = SolverInfo(
        order=2,
        nfe_step=2,
        nfe_start=1,
        fsal=True,
        continuous_field=True,
        reversible=True,
        symplectic=True,
        terms=(Partitioned,),
        reference="Verlet 1967; Hairer, Lubich & Wanner 2003, eq. 1.5",
    )

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The force at the start, where it is continuous over the ends of steps."""
        return cast(Partitioned, term).force.vf(t0, leaves(y0)[0]) if term.continuous else None

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step of the pair `(q, p)`; `carry` is the force at `t0` if it is known."""
        pair, (q, p), control = cast(Partitioned, term), _halves(y0), term.control(t0, t1)
        kick = pair.force.vf(t0, q) if carry is None else carry
        p = term.advance(p, [0.5], [kick], control)
        q = term.advance(q, [1.0], [pair.velocity.vf(_middle(t0, t1), p)], control)
        second = pair.force.vf(t1, q)
        p = term.advance(p, [0.5], [second], control)
        return Step(_pair(q, p), None if carry is None else second)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: the same moves backwards."""
        pair, (q, p), control = cast(Partitioned, term), _halves(y1), term.control(t0, t1)
        second = pair.force.vf(t1, q) if carry is None else carry
        p = term.advance(p, [-0.5], [second], control)
        q = term.advance(q, [-1.0], [pair.velocity.vf(_middle(t0, t1), p)], control)
        kick = pair.force.vf(t0, q)
        p = term.advance(p, [-0.5], [kick], control)
        return Step(_pair(q, p), None if carry is None else kick)


def _halves(y: State) -> tuple[State, State]:
    q, p = leaves(y)
    return q, p


def _pair(q: State, p: State) -> State:
    return cast("tuple[Tensor, Tensor]", (q, p))


def _middle(t0: Time, t1: Time) -> Time:
    return t0 + 0.5 * (t1 - t0)
