"""Station: the sampler. Euler's and Heun's step of the probability flow, and both with noise that is drawn again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..errors import InputError
from ..states import axpy
from ..terms import Denoising, Noised, ReverseSDE, Term
from ..types import Carry, State, Time
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, data, mix
from .noisy import check_falls, no_dense

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

__all__ = ["DDIM", "EDMHeun"]


class DDIM(DenoisingSolver):
    """Denoising diffusion implicit models: y₁ = D + √(ρ₁² − η² s²) ε + η s z, with s² = ρ₁² (ρ₀² − ρ₁²)/ρ₀².

    With η = 0 no noise is drawn: y₁ = y₀ + (ρ₁ − ρ₀) ε(ρ₀, y₀), Euler's step of the probability flow; in x it is
    α₁ D + σ₁ ε. DPM-Solver, DPM-Solver++ and DEIS of first order are the same. With η = 1 it is `DDPM`. Order 1, one
    evaluation a step; with noise that is the order of the law. Not to be confused with the η of `ReverseSDE`, which
    other solvers take, and this one leaves alone.

    Args:
        eta: η, from 0 to 1. Above 0 it integrates `ReverseSDE`, else `Denoising`.

    Raises:
        InputError: for other η.

    Reference: Song, Meng & Ermon, ICLR 2021 (arXiv 2010.02502), eq. 12 and 16.
    """

    info = SolverInfo(order=1, nfe_step=1, terms=(Denoising,), reference="Song, Meng & Ermon 2021, arXiv 2010.02502")

    def __init__(self, eta: float = 0.0) -> None:
        if not 0.0 <= eta <= 1.0:
            raise InputError(f"DDIM got eta={eta}; it must lie between 0, no noise, and 1, as much as DDPM draws")
        self.eta = float(eta)
        if eta:
            drawn = {"calculus": "ito", "strong_order": {"additive": 1.0}, "weak_order": 1.0, "terms": (ReverseSDE,)}
            self.info = replace(self.info, **drawn)  # type: ignore[arg-type]  # one of each kind

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        if not self.eta:
            return Step(axpy(rho1 - rho0, cast(Noised, term).eps(rho0, y0), y0))
        check_falls(self, rho0, rho1)
        sde = cast(ReverseSDE, term)
        eps = sde.eps(rho0, y0)
        new = self.eta * rho1 * math.sqrt(1 - (rho1 / rho0) ** 2)
        if not new:
            return Step(data(rho0, y0, eps))
        kept = math.sqrt(rho1**2 - new**2)
        return Step(mix([1.0, kept - rho0, new], [y0, eps, sde.normal(rho0, rho1)]))

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """Hermite's cubic; refused with noise."""
        return no_dense(self) if self.eta else super().dense(term, t0, t1, y0, step)

    def __repr__(self) -> str:
        return f"DDIM(eta={self.eta:g})" if self.eta else "DDIM"

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Without noise, with half of it, and with all."""
        return cls(), cls(0.5), cls(1.0)


MOST_CHURN = math.sqrt(2.0) - 1.0
"""The largest share by which the level rises: then the noise has twice the variance."""


class EDMHeun(DenoisingSolver):
    """The sampler of EDM: Heun's step of dy/dρ = ε, and Euler's to ρ = 0; with churn, from a level a little higher.

    Churn first adds noise, y + n √(ρ̂² − ρ₀²) z up to ρ̂ = (1 + γ) ρ₀, γ = min(churn/N, √2 − 1) in a solve of N steps,
    and steps from there. In the last step too, as published, where that noise is taken away at once; `churn_min` keeps
    it from being drawn. Order 2, two evaluations a step, one in a last step to 0: 2 N − 1 in all; with churn that is
    the order of the law. Not to be confused with `Heun`, which is the same above 0 and has no step to it.

    Args:
        churn: S_churn, how much noise is added; 0 integrates `Denoising`, more `ReverseSDE`.
        churn_min: S_tmin, the least level that it is added at.
        churn_max: S_tmax, the most; None adds it at all levels above.
        churn_noise: S_noise, n: above 1 it makes up for networks that take too much away; the law of exact estimates
            then has too much noise, however many steps there are.

    ρ̂ does not pass the noisy end of the term's schedule, if it has one, where networks know nothing.

    Raises:
        InputError: for limits that are none; from a solve whose steps are not fixed, if there is churn.

    Reference: Karras, Aittala, Aila & Laine, NeurIPS 2022 (arXiv 2206.00364), algorithms 1 and 2.
    """

    info = SolverInfo(order=2, nfe_step=2, terms=(Denoising,), reference="Karras et al. 2022, arXiv 2206.00364")

    def __init__(
        self, churn: float = 0.0, churn_min: float = 0.0, churn_max: float | None = None, churn_noise: float = 1.0
    ) -> None:
        most = math.inf if churn_max is None else churn_max
        if not (0 <= churn < math.inf and 0 <= churn_min <= most and 0 < churn_noise < math.inf):
            raise InputError(
                f"EDMHeun got churn={churn}, churn_min={churn_min}, churn_max={churn_max}, churn_noise={churn_noise}; "
                "churn and its limits are at least 0, the least first, and churn_noise, usually near 1, is above 0"
            )
        self.churn, self.churn_min, self.churn_max, self.churn_noise = churn, churn_min, churn_max, churn_noise
        if churn:
            drawn = {"calculus": "ito", "strong_order": {"additive": 1.0}, "terms": (ReverseSDE,)}
            self.info = replace(self.info, weak_order=2.0 if churn_noise == 1 else None, **drawn)  # type: ignore[arg-type]

    def walk(self, term: Term, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        noised = cast(Noised, term)
        if self.churn:
            rho0, y0 = self._churned(cast(ReverseSDE, term), rho0, rho1, y0)
        way, first = rho1 - rho0, noised.eps(rho0, y0)
        ahead = axpy(way, first, y0)
        if rho1 == 0.0:
            return Step(ahead)
        return Step(axpy(way / 2, noised.eps(rho1, ahead), axpy(way / 2, first, y0)))

    def _churned(self, term: ReverseSDE, rho0: float, rho1: float, y0: State) -> tuple[float, State]:
        """The level that the step begins at, and the state there."""
        check_falls(self, rho0, rho1)
        if not term.levels:
            raise InputError(
                f"{self!r} shares its churn out among the steps of a solve, and their number is not known: use fixed "
                "steps, or churn=0"
            )
        if rho0 < self.churn_min or (self.churn_max is not None and rho0 > self.churn_max):
            return rho0, y0
        higher = rho0 * (1 + min(self.churn / (len(term.levels) - 1), MOST_CHURN))
        if term.schedule is not None:
            higher = min(higher, max(term.schedule.rho_ends[0], rho0))
        std = self.churn_noise * math.sqrt(higher**2 - rho0**2)
        return higher, axpy(std, term.normal(rho0, rho1), y0) if std else y0

    def dense(self, term: Term, t0: Time, t1: Time, y0: State, step: Step) -> tuple[State, ...]:
        """Hermite's cubic; refused with noise."""
        return no_dense(self) if self.churn else super().dense(term, t0, t1, y0, step)

    def __repr__(self) -> str:
        given: tuple[tuple[str, float | None, float | None], ...] = (
            ("", self.churn, 0.0),
            ("_min", self.churn_min, 0.0),
            ("_max", self.churn_max, None),
            ("_noise", self.churn_noise, 1.0),
        )
        told = [f"churn{name}={value:g}" for name, value, usual in given if value is not None and value != usual]
        return f"EDMHeun({', '.join(told)})" if told else "EDMHeun"

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """Without noise, and with some."""
        return cls(), cls(churn=2.0)
