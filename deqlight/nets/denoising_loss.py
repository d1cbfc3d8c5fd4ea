"""Station: the network. What a generator's network is trained by: how far off it is about noisy data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from ..brownian import next_stream
from ..errors import InputError, check_word
from ..schedules import Draw, UniformDraw
from ..states import like
from ..types import Tensor
from .coupling import Coupling, Independent
from .denoiser import Denoiser

__all__ = ["DenoisingLoss", "Weight"]

Weight: TypeAlias = Literal["simple", "noise", "likelihood", "min_snr"]
"""What an error counts: `simple`, of what the network tells, as it is; `noise`, of the noise that it means; that times
g²/σ², `likelihood`; and times min(SNR, 5)/SNR, `min_snr`."""

SNR = 5.0
"""The most that a signal-to-noise ratio counts by `min_snr`; the paper's number."""


@dataclass(frozen=True)
class DenoisingLoss:
    """A time and noise for each sample, and the weighted squared error of what the network tells of their mixture.

    The published losses: DDPM is `eps`, drawn evenly, `simple`; score matching `score` and `noise` (λ = σ²), or
    `likelihood` (λ = g²); EDM `Preconditioned` and `LogNormalDraw`, `simple`; flow matching `velocity` on
    `RectifiedFlow`, `simple`, with `OptimalTransport` if wanted.

    Times and noise are keyed by sample: a sample sees the same in any batch, but for the coupling.

    Args:
        draw: the law of times.
        weight: what an error counts, see `Weight`.
        importance: whether samples are divided by the density that their time was drawn with: the loss is then that of
            even times, with another variance.
        coupling: which noise goes with which data.

    Raises:
        InputError: for another word as the weight; from a call, for times that a schedule does not have.

    Reference: Ho, Jain & Abbeel, arXiv 2006.11239, eq. 14; Song et al., arXiv 2011.13456, eq. 7; Song, Durkan, Murray &
    Ermon, arXiv 2101.09258, for g²; Hang et al., ICCV 2023, arXiv 2303.09556, for the ratio that is held.
    """

    draw: Draw = UniformDraw()  # noqa: RUF009  a frozen value
    weight: Weight = "simple"
    importance: bool = False
    coupling: Coupling = Independent()  # noqa: RUF009  a frozen value

    def __post_init__(self) -> None:
        check_word("DenoisingLoss", "weight", self.weight, get_args(Weight))
        if not isinstance(self.draw, Draw):
            raise InputError(f"DenoisingLoss got draw={self.draw!r}; it needs a Draw, such as UniformDraw()")

    def __call__(self, denoiser: Denoiser, x0: Tensor, classes: Tensor | None = None) -> Tensor:
        """The loss of each sample, `(batch,)`, under the next stream of the key in force.

        Args:
            denoiser: the network.
            x0: data, `(batch, *state)`.
            classes: their classes, `(batch,)`; None trains without.
        """
        stream, schedule = next_stream(), denoiser.schedule
        t = self.draw.times(stream.uniform(1, x0.new_empty(len(x0)))[:, 0], schedule)
        eps = self.coupling.paired(x0, stream.normal(1, x0)[:, 0])
        x = like(schedule.alpha(t), x0) * x0 + like(schedule.sigma(t), x0) * eps
        told: Tensor = denoiser(t, x, classes)
        off = told.float() - denoiser.target(x0, eps, t).float()
        loss = off.square().flatten(1).mean(1) * _WEIGHTS[self.weight](denoiser, t)
        return loss / self.draw.density(t, schedule) if self.importance else loss


def _noise(denoiser: Denoiser, t: Tensor) -> Tensor:
    return denoiser.gain(t).square()


def _likelihood(denoiser: Denoiser, t: Tensor) -> Tensor:
    speed = denoiser.schedule.diffusion(t) / denoiser.schedule.sigma(t)
    return _noise(denoiser, t) * speed.square()


def _min_snr(denoiser: Denoiser, t: Tensor) -> Tensor:
    return _noise(denoiser, t) * (SNR * denoiser.schedule.rho(t).square()).clamp(max=1.0)


_WEIGHTS: dict[Weight, Callable[[Denoiser, Tensor], Tensor]] = {
    "simple": lambda denoiser, t: torch.ones_like(t),
    "noise": _noise,
    "likelihood": _likelihood,
    "min_snr": _min_snr,
}
