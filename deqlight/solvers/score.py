"""Station: the sampler with noise. The score equation in the schedule's own time, predicted and corrected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch

from ..brownian import SPACE_TIME
from ..errors import InputError
from ..states import each, leaves
from ..terms import ReverseSDE
from ..types import Carry, State, Tensor
from .ancestral import alpha_ratio
from .base import SolverInfo, Step
from .denoising import DenoisingSolver, mix
from .noisy import NoisySampler, drawing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

__all__ = ["EulerMaruyama", "PredictorCorrector", "ReverseDiffusion"]

SONG = "Song et al. 2021, arXiv 2011.13456"


class EulerMaruyama(NoisySampler):
    """Euler and Maruyama's step of dx = (f x − g² ∇log p) dt + g dw in the schedule's time t, which falls.

    x₁ = x₀ − h (f x₀ + g² ε/σ₀) + g √h z with f and g at the start, h = t₀ − t₁, x = α y. Order 1 of the law, one
    evaluation a step. Without a schedule t = log ρ and α = 1. Not to be confused with `Euler`, which steps in ρ and y,
    and takes any η.

    Reference: Song et al., ICLR 2021 (arXiv 2011.13456), eq. 6 and §4.1.
    """

    info = drawing(1, SONG)

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        schedule, start = term.schedule, term.time(rho0)
        h, ratio = start - term.time(rho1), alpha_ratio(term, rho0, rho1)
        f, g = 0.0, math.sqrt(2) * rho0  # of σ = eᵗ; g as it is in y at the start
        if schedule is not None:
            f, g = schedule.drift(start), schedule.diffusion(start) / schedule.scale(rho0)
        weights = [ratio * (1 - h * f), -ratio * h * g**2 / rho0, ratio * g * math.sqrt(h)]
        return Step(mix(weights, [y0, term.eps(rho0, y0), term.normal(rho0, rho1)]))


class ReverseDiffusion(NoisySampler):
    """The reverse diffusion sampler: the reverse equation stepped as the forward chain is.

    That chain is x₀ = a x₁ + G z with a = α₀/α₁ and G² = α₀² (ρ₀² − ρ₁²); backwards, x₁ = (2 − a) x₀ − G² ε/σ₀ + G z.
    Order 1 of the law, one evaluation a step. Not to be confused with `DDPM`, whose mean divides by a; without a
    schedule, a = 1, both means are one, and the noise is `DDPM("forward")`'s.

    Reference: Song et al., ICLR 2021 (arXiv 2011.13456), appendix E.
    """

    info = drawing(1, SONG)

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step."""
        ratio, added = alpha_ratio(term, rho0, rho1), rho0**2 - rho1**2
        weights = [ratio * (2 - ratio), -ratio * added / rho0, ratio * math.sqrt(added)]
        return Step(mix(weights, [y0, term.eps(rho0, y0), term.normal(rho0, rho1)]))


class PredictorCorrector(NoisySampler):
    """A predictor's step, and a step of Langevin's dynamics at the level reached: y − δ ε/ρ + √(2δ) z.

    δ = 2 (snr ρ |z|/|ε|)², with norms of each sample. The paper averages them over the batch, by which a sample depends
    on its batch mates, and has a factor α₀²/α₁², near 1, where the schedule makes the data smaller. Its z is drawn with
    the path, from the time integral of W. The order is the predictor's, where no noise is drawn; one evaluation a step
    more, but none in a last step to 0. A corrector keeps the law up to a share of the variance, snr² + 4/d in d numbers
    (4/d by norms of each sample), in any number of steps, so that no order of the law is claimed.

    Not to be confused with `ABM2`, whose corrector is of the same equation.

    Args:
        predictor: a sampler of `ReverseSDE` that knows of one step alone.
        snr: the signal-to-noise ratio r of the corrector; 0.16 is published for CIFAR-10.

    Raises:
        InputError: for other predictors, and an `snr` that is not positive.

    Reference: Song et al., ICLR 2021 (arXiv 2011.13456), algorithms 1, 4 and 5.
    """

    def __init__(self, predictor: DenoisingSolver, snr: float = 0.16) -> None:
        if not isinstance(predictor, DenoisingSolver) or predictor.info.terms != (ReverseSDE,):
            raise InputError(
                f"PredictorCorrector got the predictor {predictor!r}; it needs a sampler of ReverseSDE, such as "
                "ReverseDiffusion(), EulerMaruyama() or DDPM()"
            )
        told = predictor.info
        if told.steps != 1 or told.area or told.nfe_step is None:
            raise InputError(
                f"PredictorCorrector got the predictor {predictor!r}; it must know of one step alone and draw one "
                "number, for the corrector moves the state and draws the other: ReverseDiffusion(), "
                "EulerMaruyama(), DDPM()"
            )
        if not 0.0 < snr < math.inf:
            raise InputError(f"PredictorCorrector got snr={snr}; it must be above 0, and is 0.16 in the paper")
        self.predictor, self.snr = predictor, snr
        self.info = SolverInfo(
            order=told.order, nfe_step=told.nfe_step + 1, area=SPACE_TIME, terms=(ReverseSDE,), reference=SONG
        )

    def fall(self, term: ReverseSDE, rho0: float, rho1: float, y0: State, carry: Carry) -> Step:
        """One step of each."""
        y = self.predictor.step(term, rho0, rho1, y0, None).y
        eps, z = term.eps(rho1, y), second_normal(term, rho0, rho1)
        share = self.snr * _norms(z) / _norms(eps)  # of δ = 2 (share ρ)²

        def moved(leaf: Tensor, estimate: Tensor, drawn: Tensor) -> Tensor:
            own = share.reshape([len(leaf), *[1] * (leaf.dim() - 1)] if leaf.dim() else []).to(leaf.dtype)
            return leaf + 2 * rho1 * own * (drawn - own * estimate)

        return Step(each(moved, y, eps, z))

    def __repr__(self) -> str:
        return f"PredictorCorrector({self.predictor!r}, snr={self.snr:g})"

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """With two of the predictors."""
        return cls(ReverseDiffusion()), cls(EulerMaruyama(), snr=0.1)


def second_normal(term: ReverseSDE, rho0: float, rho1: float) -> State:
    """Standard normal numbers of a step that are independent of `term.normal`: U/Δρ − W/2 over its deviation."""
    drive, step = term.control(rho0, rho1), rho1 - rho0
    root = math.sqrt(12 / abs(step))
    return each(lambda w, u: (u / step - w / 2) * root, drive.w, cast(State, drive.u))


def _norms(y: State) -> Tensor:
    """The Euclidean norm of each sample over all of the state, `(batch,)`."""
    squares = [leaf.reshape(leaf.shape[:1].numel(), leaf.shape[1:].numel()).square().sum(1) for leaf in leaves(y)]
    return torch.stack([part.to(squares[0].dtype) for part in squares]).sum(0).sqrt()
