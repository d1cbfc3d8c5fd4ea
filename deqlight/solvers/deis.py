"""Station: the sampler. Adams–Bashforth methods of the probability flow: polynomials in a time of choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from ..errors import InputError, check_word
from ..schedules import Schedule
from ..states import axpy
from ..terms import Denoising, Term
from ..types import Carry, State, Tensor
from .base import SolverInfo, Step
from .denoising import REMEMBERED, DenoisingSolver, MultistepSampler, capped, mix

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEIS", "PNDM", "Variable"]

Variable: TypeAlias = Literal["t", "rho", "lambda"]
"""In which time the noise is a polynomial: the schedule's, ρ, or the log-SNR."""

VARIABLES: tuple[Variable, ...] = ("t", "rho", "lambda")

MOST = 4
"""The highest order: polynomials through more steps are not stable at the lengths that samplers take."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


class DEIS(MultistepSampler):
    """Adams–Bashforth with the noise a polynomial in a time of choice: y₁ = y₀ + Σ ε_j ∫ L_j dρ. tAB and ρAB of DEIS.

    Order as chosen, one evaluation a step; the first steps have as many points as there are, and a last one to 0 is of
    order 1. `DEIS(1)` is `DDIM`. Not to be confused with `AB2` and its like on equal steps, nor with ρRK of the same
    paper, which is any Runge–Kutta method here.

    Args:
        order: points that the polynomial goes through, 1 to 4: tAB0 to tAB3 of the paper.
        variable: `t`, the time of the term's schedule; `rho`; or `lambda`.
        lower_final: whether the polynomial of the last steps goes through as many points as there are steps left, where
            that is known.

    Raises:
        InputError: for other orders and variables.

    Reference: Zhang & Chen, Fast Sampling of Diffusion Models with Exponential Integrator, ICLR 2023 (arXiv
    2204.13902).
    """

    def __init__(self, order: int = 3, variable: Variable = "t", lower_final: bool = False) -> None:
        if not 1 <= order <= MOST:
            raise InputError(f"DEIS got order={order}; it has the orders 1 to {MOST}")
        check_word("DEIS", "variable", variable, VARIABLES)
        self.beside = order == MOST  # of fewer, one after the other is as fast
        self.order, self.kept, self.variable, self.lower_final = order, order - 1, variable, lower_final
        info = SolverInfo(
            order=order,
            nfe_step=1,
            steps=order,
            dense_order=min(order, 2),
            terms=(Denoising,),
            reference="Zhang & Chen 2023, arXiv 2204.13902",
        )
        self.info = capped(info, lower_final)
        self._known: dict[tuple[Schedule | None, float, tuple[float, ...]], tuple[float, ...]] = {}

    def __repr__(self) -> str:
        return f"DEIS({self.order}, variable={self.variable!r}{', lower_final=True' * self.lower_final})"

    def estimate(self, rho: float, y: State, noise: State, out: Tensor | None = None) -> State:
        """The noise; a copy of it, if `out` is given."""
        return noise if out is None else out.copy_(cast(Tensor, noise))

    def weights(
        self, term: Denoising, end: float, rhos: tuple[float, ...], points: int, before: int
    ) -> tuple[float, ...]:
        """1, and those of the noise estimates."""
        if points == 1:
            return 1.0, end - rhos[0]
        key = term.schedule if self.variable == "t" else None, end, rhos[:points]
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = 1.0, *_integrals(_scale(term, self.variable), end, rhos[:points])
        return self._known[key]

    @classmethod
    def examples(cls) -> Sequence[Self]:
        """All orders, in each variable."""
        return cls(1), cls(2), cls(3), cls(4), cls(2, "rho"), cls(3, "lambda")


class PNDM(DenoisingSolver):
    """Pseudo numerical methods: the Adams–Bashforth formula of four equal steps, put into the step of `DDIM`.

    ε = (55 ε₀ − 59 ε₁ + 37 ε₂ − 9 ε₃)/24; three pseudo-Runge–Kutta steps of four evaluations come first. Order 2, since
    the formula is exact in the number of the step and the step that it is put into is not; one evaluation a step, nine
    more at the start. A last step to 0 is of order 1. Not to be confused with `DEIS`, whose weights are those of the
    steps taken.

    Reference: Liu, Ren, Lin & Zhao, ICLR 2022 (arXiv 2202.09778), the fourth-order method.
    """

    info = SolverInfo(
        order=2,
        nfe_step=1,
        nfe_start=9,
        steps=4,
        smooth_steps=True,
        dense_order=2,
        terms=(Denoising,),
        reference="Liu, Ren, Lin & Zhao 2022, arXiv 2202.09778",
    )

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step; `carry` are the noise estimates before."""
        now, behind = term.vf(rho0, y0), () if carry is None else carry
        noises = (now, *behind)
        if rho1 == 0.0:
            return Step(axpy(-rho0, now, y0), noises[:3])
        if len(noises) < 4:
            return Step(axpy(rho1 - rho0, self._warm(cast(Denoising, term), rho0, rho1, y0, now), y0), noises)
        share = (rho1 - rho0) / 24
        return Step(mix([1.0, 55 * share, -59 * share, 37 * share, -9 * share], [y0, *noises]), noises[:3])

    def _warm(self, term: Denoising, rho0: float, rho1: float, y0: State, now: State) -> State:
        """The noise of a pseudo-Runge–Kutta step, by stages in the middle of the schedule's time and at the end."""
        middle = term.level(0.5 * (term.time(rho0) + term.time(rho1)))
        second = term.vf(middle, axpy(middle - rho0, now, y0))
        third = term.vf(middle, axpy(middle - rho0, second, y0))
        fourth = term.vf(rho1, axpy(rho1 - rho0, third, y0))
        return mix([1 / 6, 1 / 3, 1 / 3, 1 / 6], [now, second, third, fourth])


def _scale(term: Denoising, variable: Variable) -> Callable[[float], float]:
    scales: dict[Variable, Callable[[float], float]] = {"t": term.time, "rho": float, "lambda": math.log}
    return scales[variable]


def _integrals(scale: Callable[[float], float], end: float, rhos: tuple[float, ...]) -> tuple[float, ...]:
    """∫ L_j(s(ρ)) dρ from the first of `rhos` to `end`, for the Lagrange polynomials L_j through all of them."""
    start = rhos[0]
    places = 0.5 * (start + end) + 0.5 * (end - start) * NODES
    s, known = np.array([scale(float(rho)) for rho in places]), np.array([scale(rho) for rho in rhos])
    found = []
    for j, own in enumerate(known):
        others = np.delete(known, j)
        values = np.prod((s[:, None] - others) / (own - others), 1)
        found.append(float(0.5 * (end - start) * (WEIGHTS @ values)))
    return tuple(found)
