"""Station: how much noise at which time. What a network is trained to tell of x_t, and the noise and data in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

from ..errors import check_word
from ..states import like
from ..types import Tensor, Time
from .base import Schedule

__all__ = ["Prediction", "check_prediction", "target", "to_data", "to_eps"]

Prediction: TypeAlias = Literal["eps", "x0", "v", "score", "velocity"]
"""What a network tells of x = α x₀ + σ ε: the noise ε; the data x₀; v = α ε − σ x₀; the score −ε/σ; the velocity
dx/dt = α' x₀ + σ' ε, where x₀ and ε stand for their means given x."""


def to_eps(kind: Prediction, value: Tensor, x: Tensor, t: Time, schedule: Schedule) -> Tensor:
    """The noise ε̂ in x, by what the network tells of it.

    Infinite or NaN where that does not say: by the data, where σ = 0.

    Args:
        kind: what the network tells.
        value: what it told, `(batch, *state)`.
        x: what it was shown, `(batch, *state)`.
        t: when: a float, or a tensor of one number a sample, `(batch,)` or `(batch, 1, …)`.
        schedule: what x is made by.

    Raises:
        InputError: for another kind of prediction.

    Reference: Salimans & Ho, Progressive Distillation for Fast Sampling of Diffusion Models, ICLR 2022, arXiv
    2202.00512, for v; Song et al., arXiv 2011.13456, for the score.
    """
    return _rule(kind).eps(value, x, _Mixture(t, x, schedule))


def to_data(kind: Prediction, value: Tensor, x: Tensor, t: Time, schedule: Schedule) -> Tensor:
    """The data x̂₀ in x, by what the network tells of it: (x − σ ε̂)/α.

    Infinite or NaN where that does not say: by the noise or the score, where α = 0; by the velocity, where σ has an
    infinite slope, as that of `VP` at t = 0.

    Args:
        kind: what the network tells.
        value: what it told, `(batch, *state)`.
        x: what it was shown, `(batch, *state)`.
        t: when: a float, or a tensor of one number a sample, `(batch,)` or `(batch, 1, …)`.
        schedule: what x is made by.

    Raises:
        InputError: for another kind of prediction.
    """
    return _rule(kind).data(value, x, _Mixture(t, x, schedule))


def target(kind: Prediction, x0: Tensor, eps: Tensor, t: Time, schedule: Schedule) -> Tensor:
    """What the network should tell of data and noise: the inverse of `to_data` and `to_eps` together.

    Args:
        kind: what the network tells.
        x0: the data, `(batch, *state)`.
        eps: the noise, `(batch, *state)`.
        t: when: a float, or a tensor of one number a sample, `(batch,)` or `(batch, 1, …)`.
        schedule: what x is made by.

    Raises:
        InputError: for another kind of prediction.

    >>> import torch
    >>> from deqlight.schedules import RectifiedFlow
    >>> target("velocity", torch.tensor([1.0]), torch.tensor([5.0]), 0.5, RectifiedFlow())
    tensor([4.])
    """
    return _rule(kind).told(x0, eps, _Mixture(t, x0, schedule))


class _Mixture:
    """α and σ and their slopes at a time, so that they broadcast against a state; reckoned in the time's dtype."""

    def __init__(self, t: Time, x: Tensor, schedule: Schedule) -> None:
        self._t, self._x, self._schedule = t, x, schedule

    @property
    def alpha(self) -> Time:
        return like(self._schedule.alpha(self._t), self._x)

    @property
    def sigma(self) -> Time:
        return like(self._schedule.sigma(self._t), self._x)

    @property
    def slopes(self) -> tuple[Time, Time]:
        alpha, sigma = self._schedule.slopes(self._t)
        return like(alpha, self._x), like(sigma, self._x)


class _Rule(NamedTuple):
    """A kind of prediction: the noise and the data of (value, x), and the value of (data, noise)."""

    eps: Callable[[Tensor, Tensor, _Mixture], Tensor]
    data: Callable[[Tensor, Tensor, _Mixture], Tensor]
    told: Callable[[Tensor, Tensor, _Mixture], Tensor]


def _v_eps(v: Tensor, x: Tensor, at: _Mixture) -> Tensor:
    a, s = at.alpha, at.sigma
    return (s * x + a * v) / (a * a + s * s)


def _v_data(v: Tensor, x: Tensor, at: _Mixture) -> Tensor:
    a, s = at.alpha, at.sigma
    return (a * x - s * v) / (a * a + s * s)


def _velocity_eps(u: Tensor, x: Tensor, at: _Mixture) -> Tensor:
    a, s, (da, ds) = at.alpha, at.sigma, at.slopes
    return (a * u - da * x) / (a * ds - s * da)


def _velocity_data(u: Tensor, x: Tensor, at: _Mixture) -> Tensor:
    a, s, (da, ds) = at.alpha, at.sigma, at.slopes
    return (ds * x - s * u) / (a * ds - s * da)


def _velocity(x0: Tensor, eps: Tensor, at: _Mixture) -> Tensor:
    da, ds = at.slopes
    return da * x0 + ds * eps


_RULES: dict[Prediction, _Rule] = {
    "eps": _Rule(lambda eps, x, at: eps, lambda eps, x, at: (x - at.sigma * eps) / at.alpha, lambda x0, eps, at: eps),
    "x0": _Rule(lambda x0, x, at: (x - at.alpha * x0) / at.sigma, lambda x0, x, at: x0, lambda x0, eps, at: x0),
    "v": _Rule(_v_eps, _v_data, lambda x0, eps, at: at.alpha * eps - at.sigma * x0),
    "score": _Rule(
        lambda s, x, at: -at.sigma * s,
        lambda s, x, at: (x + at.sigma * (at.sigma * s)) / at.alpha,
        lambda x0, eps, at: -eps / at.sigma,
    ),
    "velocity": _Rule(_velocity_eps, _velocity_data, _velocity),
}


def check_prediction(name: str, kind: Prediction) -> None:
    """Raise `InputError` for another kind of prediction."""
    check_word(name, "prediction", kind, get_args(Prediction))


def _rule(kind: Prediction) -> _Rule:
    check_word("a prediction", "kind", kind, get_args(Prediction))
    return _RULES[kind]
