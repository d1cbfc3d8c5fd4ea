"""Station: how much noise at which time. The times that a network is trained at, drawn from a law of choice."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..types import Tensor
from .base import Schedule

__all__ = ["Draw", "LogNormalDraw", "LogSNRDraw", "LogitNormalDraw", "UniformDraw"]


class Draw(ABC):
    """A law of training times. Each sample's time is a function of one number of its own."""

    @abstractmethod
    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The times that numbers `u` `(batch,)`, even in [0, 1), stand for, `(batch,)`."""

    @abstractmethod
    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The law's density at times `(batch,)`, over that of times that are even between the schedule's ends."""


@dataclass(frozen=True)
class UniformDraw(Draw):
    """Times that are even between the schedule's ends.

    Args:
        labels: of so many labels one, as for a schedule that is a table: t = 1/labels, 2/labels, …, 1. None draws from
            all times.

    Raises:
        InputError: for no labels.

    Reference: Ho, Jain & Abbeel, arXiv 2006.11239, algorithm 1, for labels; Song et al., arXiv 2011.13456, eq. 7.
    """

    labels: int | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels < 1:
            raise InputError(f"UniformDraw got labels={self.labels}; it needs at least 1, or None for all times")

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Shares of the way between the ends, or the labels."""
        if self.labels is not None:
            return ((u * self.labels).floor() + 1) / self.labels
        low, high = schedule.ends
        return low + u * (high - low)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """1."""
        return torch.ones_like(t)


class _OfNoise(Draw):
    """A law of log ρ: times follow from the schedule, and are held between its ends."""

    @abstractmethod
    def logs(self, u: Tensor, low: float, high: float) -> Tensor:
        """Log ρ for numbers `u`, with its least and largest value."""

    @abstractmethod
    def log_density(self, logs: Tensor, low: float, high: float) -> Tensor:
        """The density of log ρ there."""

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """When there is the noise that was drawn."""
        low, high = _ends(schedule)
        logs = self.logs(u.double(), low, high).clamp(low, high)
        return schedule.time(logs.exp()).to(u.dtype)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """That of log ρ times d log ρ/dt = g²/2σ², which holds for every schedule."""
        low, high = _ends(schedule)
        first, last = schedule.ends
        speed = (schedule.diffusion(t) / schedule.sigma(t)).square() / 2
        return self.log_density(schedule.rho(t).log(), low, high) * speed * (last - first)


@dataclass(frozen=True)
class LogSNRDraw(_OfNoise):
    """Times at which the log-SNR is even between the schedule's ends.

    The weight g²/σ² that bounds the likelihood is d log ρ²/dt: so this law is the importance sampling of that weight,
    and a loss of the noise under it is, but for a factor, the bound itself.

    Reference: Song, Durkan, Murray & Ermon, Maximum Likelihood Training of Score-Based Diffusion Models, NeurIPS 2021,
    arXiv 2101.09258, section 4.
    """

    def logs(self, u: Tensor, low: float, high: float) -> Tensor:
        """Shares of the way between the ends."""
        return low + u * (high - low)

    def log_density(self, logs: Tensor, low: float, high: float) -> Tensor:
        """One over the width."""
        return torch.full_like(logs, 1 / (high - low))


@dataclass(frozen=True)
class LogNormalDraw(_OfNoise):
    """Times at which log ρ is normal: most of training is where there is neither much noise nor little.

    Args:
        mean: of log ρ.
        std: its standard deviation.

    Raises:
        InputError: for a deviation that is not positive, or numbers that are not finite.

    Reference: Karras et al., arXiv 2206.00364, table 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check(self, self.mean, self.std)

    def logs(self, u: Tensor, low: float, high: float) -> Tensor:
        """The quantiles of the normal distribution."""
        return self.mean + self.std * _normal(u)

    def log_density(self, logs: Tensor, low: float, high: float) -> Tensor:
        """The normal density."""
        return _bell((logs - self.mean) / self.std) / self.std


@dataclass(frozen=True)
class LogitNormalDraw(Draw):
    """Times between the schedule's ends whose logit is normal: the middle of a flow, which is hardest, most often.

    Args:
        mean: of the logit; above 0 there is more noise.
        std: its standard deviation.

    Raises:
        InputError: for a deviation that is not positive, or numbers that are not finite.

    Reference: Esser et al., Scaling Rectified Flow Transformers for High-Resolution Image Synthesis, ICML 2024, arXiv
    2403.03206, section 3.1.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check(self, self.mean, self.std)

    def times(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The logistic function of the normal quantiles, between the ends."""
        low, high = schedule.ends
        return low + torch.sigmoid(self.mean + self.std * _normal(u.double())).to(u.dtype) * (high - low)

    def density(self, t: Tensor, schedule: Schedule) -> Tensor:
        """The normal density of the logit, times its slope."""
        low, high = schedule.ends
        share = (t - low) / (high - low)
        return _bell((share.logit() - self.mean) / self.std) / (self.std * share * (1 - share))


def _check(draw: LogNormalDraw | LogitNormalDraw, mean: float, std: float) -> None:
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise InputError(f"{draw} needs a mean and a standard deviation that are finite, the latter above 0")


def _ends(schedule: Schedule) -> tuple[float, float]:
    high, low = schedule.rho_ends
    return math.log(low), math.log(high)


def _normal(u: Tensor) -> Tensor:
    """The standard normal quantiles; no share is 0 or 1."""
    least = torch.finfo(u.dtype).eps
    quantiles: Tensor = torch.special.ndtri(u.clamp(least, 1 - least))
    return quantiles


def _bell(z: Tensor) -> Tensor:
    return torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
