"""Station: the integrator. Methods that remember earlier steps; each starts with one-step methods of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ..errors import InputError
from ..terms import Term, combine
from ..types import Carry, State, Tensor, Time, Weight
from .base import ReversibleSolver, Solver, SolverInfo, Step

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AB2", "Leapfrog", "LinearTwoStep", "Stormer"]


class _Slope(NamedTuple):
    """The field at the step before, and the length of that step."""

    f: State
    h: Time


class _Past(NamedTuple):
    """The state one step before (None at the start), and the number of steps done."""

    y: State | None = None
    n: int = 0


class AB2(Solver):
    """The two-step Adams–Bashforth method, y₁ = y₀ + h (3/2 f₀ − 1/2 f₋₁), with the weights of unequal steps.

    Order 2, one evaluation a step; the first step is Euler's. With step ratio r = h/h₋₁ the weights are 1 + r/2 and
    −r/2. Not to be confused with `LinearTwoStep`, which remembers the state and not the field.

    Reference: Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, §III.1 and §III.5.
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        stability=1.0,
        steps=2,
        reference="Bashforth & Adams 1883; Hairer, Nørsett & Wanner 1993, §III.1",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the last field value and step."""
        h, f, control = t1 - t0, term.vf(t0, y0), term.control(t0, t1)
        if carry is None:
            return Step(term.advance(y0, [1.0], [f], control), _Slope(f, h))
        half: Weight = h / carry.h / 2
        return Step(term.advance(y0, [1.0 + half, -half], [f, carry.f], control), _Slope(f, h))


class LinearTwoStep(Solver, nn.Module):
    """The two-step method of LM-ResNet, y₁ = (1 − k) y₀ + k y₋₁ + h f(t₀, y₀); the first step is Euler's.

    As published it converges to the solution of dy/dt = f/(1 + k); with `consistent=True` the field is multiplied by
    1 + k, the order is 1, and 2 at k = 1 (the leapfrog). k = 0 is Euler's method. One evaluation a step. In a network
    each layer has its own k, learnt if `learn` is true. Not to be confused with `AB2`.

    Args:
        k: the weight of the past, −1 < k ≤ 1 (else the method is unstable at step zero); the start value if learnt.
        consistent: integrate dy/dt = f rather than the published form.
        learn: make k a parameter. The paper draws its start from [−0.1, 0].

    Raises:
        InputError: for k outside (−1, 1].

    Reference: Lu, Zhong, Li & Dong, Beyond Finite Layer Neural Networks, ICML 2018 (arXiv 1710.10121).
    """

    def __init__(self, k: float = 0.0, consistent: bool = False, learn: bool = False) -> None:
        super().__init__()
        if not -1.0 < k <= 1.0:
            raise InputError(f"LinearTwoStep got k = {k:g}; the method is zero-stable for -1 < k <= 1 only")
        self.consistent, self.start, self.learn = consistent, float(k), learn
        self.k: Tensor | None = nn.Parameter(torch.full((1,), self.start)) if learn else None
        self.info = SolverInfo(
            order=2 if k == 1.0 and consistent else 1,
            nfe_step=1,
            steps=2,
            uniform_steps=True,
            reference="Lu, Zhong, Li & Dong 2018, arXiv 1710.10121",
        )

    def __repr__(self) -> str:
        return f"LinearTwoStep(k={self.start:g}{', consistent' * self.consistent}{', learn' * self.learn})"

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the state before and the number of the step."""
        past: _Past = carry or _Past()
        f, control, now = term.vf(t0, y0), term.control(t0, t1), _Past(y0, past.n + 1)
        if past.y is None:
            return Step(term.advance(y0, [1.0], [f], control), now)
        k: Weight = self.start if self.k is None else self.k[past.n - 1 if len(self.k) > 1 else 0]
        base = combine([1.0 - k, k], [y0, past.y])
        return Step(term.advance(base, [1.0 + k if self.consistent else 1.0], [f], control), now)

    def bind(self, layers: int, channels: int) -> Solver:
        """A solver with a k of its own for each layer but the first, which has no past, if it is learnt."""
        learn = self.learn and layers > 1
        own = type(self)(self.start, self.consistent, learn)
        if learn:
            own.k = nn.Parameter(torch.full((layers - 1,), self.start))
        return own

    def tensors(self) -> tuple[Tensor, ...]:
        """The learnt k, if it is learnt."""
        return () if self.k is None else (self.k,)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Euler's method, and the consistent forms: order 1, and order 2 at k = 1."""
        consistent = (cls(k, consistent=True, learn=learn) for k, learn in ((-0.1, False), (0.5, True), (1.0, False)))
        return cls(0.0), *consistent


class Leapfrog(ReversibleSolver):
    """The two-step midpoint rule, y₊ = y₋ + 2h f(t, y); the first step is Euler's.

    Order 2, one evaluation a step, reversible; stable for fields with imaginary spectrum alone. On a layered term it
    is the MidPoint network. Not to be confused with `Midpoint`, the Runge–Kutta method, nor with the leapfrog of
    mechanics, which is `Stormer` for positions and `Verlet` for positions and velocities.

    Reference: Chang, Meng, Haber, Ruthotto, Begert & Holtham, AAAI 2018 (arXiv 1709.03698), eq. MidPoint.
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        steps=2,
        reversible=True,
        uniform_steps=True,
        reference="Chang et al. 2018, arXiv 1709.03698",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the state before and the number of the step."""
        past: _Past = carry or _Past()
        f, control, now = term.vf(t0, y0), term.control(t0, t1), _Past(y0, past.n + 1)
        if past.y is None:
            return Step(term.advance(y0, [1.0], [f], control), now)
        return Step(term.advance(past.y, [2.0], [f], control), now)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: y₋ = y₊ − 2h f(t, y)."""
        y0 = carry.y
        if carry.n == 1:
            return Step(y0, None)
        before = term.advance(y1, [-2.0], [term.vf(t0, y0)], term.control(t0, t1))
        return Step(y0, _Past(before, carry.n - 1))


class Stormer(ReversibleSolver):
    """Störmer's rule for d²y/dt² = F(t, y): y₊ = 2y − y₋ + h² F(t, y), started from rest, y₁ = y₀ + h²/2 F(t₀, y₀).

    Order 2, one evaluation a step, reversible. The field is the force, dy/dt does not appear; for other starting
    velocities use `Verlet`. On a layered term it is the Leapfrog network of Chang et al. and the second-order network
    of Ruthotto & Haber.

    Reference: Chang et al., AAAI 2018 (arXiv 1709.03698); Hairer, Lubich & Wanner, Acta Numerica 2003.
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        steps=2,
        derivative=2,
        reversible=True,
        uniform_steps=True,
        reference="Störmer 1907; Chang et al. 2018, arXiv 1709.03698",
    )

    def step(self, term: Term, t0: Time, t1: Time, y0: State, carry: Carry) -> Step:
        """One step; `carry` is the state before and the number of the step."""
        past: _Past = carry or _Past()
        h, force, control, now = t1 - t0, term.vf(t0, y0), term.control(t0, t1), _Past(y0, past.n + 1)
        if past.y is None:
            return Step(term.advance(y0, [h / 2], [force], control), now)
        return Step(term.advance(combine([2.0, -1.0], [y0, past.y]), [h], [force], control), now)

    def unstep(self, term: Term, t0: Time, t1: Time, y1: State, carry: Carry) -> Step:
        """The inverse: y₋ = 2y − y₊ + h² F(t, y)."""
        y0 = carry.y
        if carry.n == 1:
            return Step(y0, None)
        before = combine([2.0, -1.0], [y0, y1])
        before = term.advance(before, [t1 - t0], [term.vf(t0, y0)], term.control(t0, t1))
        return Step(y0, _Past(before, carry.n - 1))
