"""Station: the integrator. Methods for partitioned systems: each half moves by the other, and can be moved back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from math import fsum
from typing import NamedTuple, cast

from ..states import leaves
from ..terms import Partitioned, Term
from ..types import Carry, State, Tensor, Time
from .base import ReversibleSolver, SolverInfo, Step

__all__ = ["Composition", "Ruth3", "SymplecticEuler", "Verlet", "Yoshida4"]

YOSHIDA = 1 / (2 - 2 ** (1 / 3))
"""Three steps of these lengths, this one, 1 − 2 of it and this one, make an order 2 into 4."""


class Move(NamedTuple):
    """A kick, which moves p by the force, or a drift, which moves q by the velocity."""

    kick: bool
    weight: float
    node: float
    """Where its field is evaluated: as far as the other half, which it depends on, has come."""

    def field(self, pair: Partitioned, t0: Time, t1: Time, q: State, p: State) -> State:
        """The force at q, or the velocity at p; at the ends of the step at exactly those times."""
        t = t1 if self.node == 1.0 else t0 + self.node * (t1 - t0) if self.node else t0
        value: State = pair.force.vf(t, q) if self.kick else pair.velocity.vf(t, p)
        return value


def alternating(*weights: float, kick_first: bool = False) -> tuple[Move, ...]:
    """Kicks and drifts in turn, of these weights; those of the kicks sum to 1, and those of the drifts."""
    return tuple(
        Move((i % 2 == 0) == kick_first, weight, fsum(weights[(i + 1) % 2 : i : 2])) for i, weight in enumerate(weights)
    )


class Composition(ReversibleSolver):
    """Any composition of kicks and drifts: a subclass gives `moves` and `info`.

    Each half has a clock of its own, which its moves advance, and a field is evaluated at the clock of the half that
    it is given: so the order holds for fields that depend on time. Where the last move is of the kind of the first,
    its field serves the next step (FSAL).
    """

    @property
    @abstractmethod
    def moves(self) -> tuple[Move, ...]:
        """The moves of a step in order; a subclass has them as a class attribute."""

    def init(self, term: Term, t0: Time, t1: Time, y0: State) -> Carry:
        """The field of the first move, where the last one can be carried over and is continuous over ends of steps."""
        if not (self.info.fsal and term.continuous):
            return None
        return self.moves[0].field(cast(Partitioned, term), t0, t1, *_halves(y0))

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step of the pair `(q, p)`; `carry` is the field of the first move if it is known."""
        y1, last = _through(self.moves, 1.0, term, (t0, t1), y0, carry)
        return Step(y1, None if carry is None else last)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: the same moves backwards."""
        y0, first = _through(reversed(self.moves), -1.0, term, (t0, t1), y1, carry)
        return Step(y0, None if carry is None else first)


class SymplecticEuler(Composition):
    """The symplectic Euler method: q₁ = q₀ + h v(t₀, p₀), then p₁ = p₀ + h F(t₁, q₁) at the new q.

    Order 1, one evaluation of each half a step (two in all), reversible, symplectic on Hamiltonian systems. On two
    layered halves it is RevNet. Not to be confused with `Euler`, which moves both halves by the old state.

    Reference: Hairer, Lubich & Wanner, Geometric Numerical Integration, §I.1.2; Gomez et al. 2017 (arXiv 1707.04585).
    """

    moves = alternating(1.0, 1.0)
    info = SolverInfo(
        order=1,
        nfe_step=2,
        reversible=True,
        symplectic=True,
        terms=(Partitioned,),
        reference="de Vogelaere 1956; Gomez et al. 2017, arXiv 1707.04585",
    )


class Verlet(Composition):
    """The velocity form of Störmer and Verlet's method: half a kick, a drift, half a kick.

    p½ = p₀ + h/2 F(t₀, q₀), q₁ = q₀ + h v(t₀ + h/2, p½), p₁ = p½ + h/2 F(t₁, q₁). Order 2, symmetric, reversible,
    symplectic on Hamiltonian systems; one evaluation of each half a step (the second kick is the next step's first),
    three on layered terms, where the next layer's force is another. Not to be confused with `Stormer`, which knows
    positions alone.

    Reference: Hairer, Lubich & Wanner, Acta Numerica 12 (2003), eq. 1.5.
    """

    moves = alternating(0.5, 1.0, 0.5, kick_first=True)
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


class Ruth3(Composition):
    """Ruth's method: drifts of 1, −2/3 and 2/3 of the step, each followed by a kick, of −1/24, 3/4 and 7/24.

    Order 3, three evaluations of each half a step (six in all), reversible, symplectic on Hamiltonian systems; not
    symmetric. Some moves go backwards, and fields are evaluated between 1/24 of a step before its start and its end.
    Not to be confused with Ruth's method of order 4 (Forest & Ruth), which is `Yoshida4` with the halves exchanged.

    Reference: Ruth, A Canonical Integration Technique, IEEE Trans. Nucl. Sci. 30 (1983).
    """

    moves = alternating(1.0, -1 / 24, -2 / 3, 3 / 4, 2 / 3, 7 / 24)
    info = SolverInfo(
        order=3, nfe_step=6, reversible=True, symplectic=True, terms=(Partitioned,), reference="Ruth 1983"
    )


class Yoshida4(Composition):
    """Yoshida's triple jump: three steps of `Verlet`, of w, 1 − 2w and w times the length, w = 1/(2 − 2^(1/3)) ≈ 1.35.

    Order 4, symmetric, reversible, symplectic on Hamiltonian systems; three evaluations of each half a step (six in
    all; the last kick is the next step's first), seven on layered terms, where the next layer's force is another. The
    middle jump goes backwards, and fields are evaluated up to 0.35 of a step beyond both ends. Not to be confused with
    Yoshida's methods of order 6 and 8, nor with Suzuki's of five jumps.

    Reference: Yoshida, Phys. Lett. A 150 (1990); Forest & Ruth, Physica D 43 (1990).
    """

    moves = alternating(
        YOSHIDA / 2,
        YOSHIDA,
        (1 - YOSHIDA) / 2,
        1 - 2 * YOSHIDA,
        (1 - YOSHIDA) / 2,
        YOSHIDA,
        YOSHIDA / 2,
        kick_first=True,
    )
    info = SolverInfo(
        order=4,
        nfe_step=6,
        nfe_start=1,
        fsal=True,
        continuous_field=True,
        reversible=True,
        symplectic=True,
        terms=(Partitioned,),
        reference="Yoshida 1990; Forest & Ruth 1990",
    )


def _through(
    path: Iterable[Move], sign: float, term: Term, ends: tuple[Time, Time], y: State, known: State | None
) -> tuple[State, State | None]:
    """The pair after these moves, forwards or backwards, and the field of the last; `known` is that of the first."""
    pair, (q, p), control, field = cast(Partitioned, term), _halves(y), term.control(*ends), known
    last = None
    for move in path:
        last = move.field(pair, *ends, q, p) if field is None else field
        field = None
        if move.kick:
            p = term.advance(p, [sign * move.weight], [last], control)
        else:
            q = term.advance(q, [sign * move.weight], [last], control)
    return cast("tuple[Tensor, Tensor]", (q, p)), last


def _halves(y: State) -> tuple[State, State]:
    q, p = leaves(y)
    return q, p
