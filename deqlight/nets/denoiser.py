"""Station: the network. A generator's network, a schedule, and what the one tells of the other's noise."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..schedules import Preconditioned, Prediction, Schedule, target, to_data, to_eps
from ..schedules.predictions import check_prediction
from ..states import like
from ..types import Tensor, Time

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """A network that was shown x = α x₀ + σ ε, and what it tells: whatever that is, `eps` and `data` follow from it.

    What it tells is one of `schedules.Prediction`; then it is shown x/√(α² + σ²), which is x itself where the schedule
    preserves variance, and the time t. Or it stands in the frame of EDM, `Preconditioned`, whatever the schedule.

    Data should have a variance about 1 (with `Preconditioned`: its own).

    Args:
        net: called as `net(label, x)`, or `net(label, x, classes)`: `UNet`, `DenoisingMLP`, or one of your own.
        schedule: how x is made.
        prediction: what the network tells: `eps`, `x0`, `v`, `score`, `velocity`, or a `Preconditioned`.

    Raises:
        InputError: for another prediction.

    >>> from deqlight.fields import DenoisingMLP
    >>> from deqlight.schedules import VP
    >>> denoiser = Denoiser(DenoisingMLP(2), VP(), "v")
    >>> denoiser.eps(3.0, torch.zeros(5, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module, schedule: Schedule, prediction: Prediction | Preconditioned = "eps") -> None:
        super().__init__()
        if not isinstance(prediction, Preconditioned):
            check_prediction("Denoiser", prediction)
        self.net, self.schedule, self.prediction = net, schedule, prediction

    def forward(self, t: Time, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """What the network tells at time `t`, a float or `(batch,)`, of `x` `(batch, *state)`: what `target` is."""
        schedule, frame = self.schedule, self.prediction
        if isinstance(frame, Preconditioned):
            rho = schedule.rho(t)
            y = x / like(schedule.alpha(t), x)
            return self._told(frame.c_noise(rho), like(frame.c_in(rho), x) * y, classes)
        size = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2) ** 0.5
        return self._told(t, x / like(size, x), classes)

    def target(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """What the network should tell of data and noise at time `t`."""
        if isinstance(self.prediction, Preconditioned):
            rho = self.schedule.rho(t)
            return self.prediction.target(x0, x0 + like(rho, x0) * eps, rho)
        return target(self.prediction, x0, eps, t, self.schedule)

    def gain(self, t: Tensor) -> Tensor:
        """How far the noise is off, `(batch,)`, for each that the network is: dε̂ over d(what it tells)."""
        if isinstance(self.prediction, Preconditioned):
            rho = self.schedule.rho(t)
            return self.prediction.c_out(rho) / rho
        return to_eps(self.prediction, torch.ones_like(t), torch.zeros_like(t), t, self.schedule)

    def eps(self, rho: Time, y: Tensor, classes: Tensor | None = None) -> Tensor:
        """The noise ε̂ in y = x₀ + ρ ε, `(batch, *state)`: the field of `Denoising` and `ReverseSDE`.

        Args:
            rho: how much noise there is: a float, or one number a sample, `(batch, 1, …)`.
            y: data and noise.
            classes: of the samples, `(batch,)`; negative for none. None tells none of them.
        """
        if isinstance(self.prediction, Preconditioned):
            return (y - self.data(rho, y, classes)) / like(rho, y)
        t, x = self._shown(rho, y)
        return to_eps(self.prediction, self(t, x, classes), x, t, self.schedule)

    def data(self, rho: Time, y: Tensor, classes: Tensor | None = None) -> Tensor:
        """The data x̂₀ in y = x₀ + ρ ε, by the same."""
        t, x = self._shown(rho, y)
        told = self(t, x, classes)
        if isinstance(self.prediction, Preconditioned):
            return self.prediction.data(told, y, rho)
        return to_data(self.prediction, told, x, t, self.schedule)

    def velocity(self, t: Time, x: Tensor, classes: Tensor | None = None) -> Tensor:
        """dx/dt of the probability flow, α' x̂₀ + σ' ε̂: the field of a solve in the schedule's own time."""
        if self.prediction == "velocity":
            return self(t, x, classes)  # type: ignore[no-any-return]  # a module's call is untyped
        da, ds = self.schedule.slopes(t)
        if isinstance(self.prediction, Preconditioned):
            rho = self.schedule.rho(t)
            y = x / like(self.schedule.alpha(t), x)
            eps = self.eps(rho, y, classes)
            return like(da, x) * (y - like(rho, x) * eps) + like(ds, x) * eps
        told = self(t, x, classes)
        data, eps = (part(self.prediction, told, x, t, self.schedule) for part in (to_data, to_eps))
        return like(da, x) * data + like(ds, x) * eps

    def _told(self, label: Time, x: Tensor, classes: Tensor | None) -> Tensor:
        told: Tensor = self.net(label, x) if classes is None else self.net(label, x, classes)
        return told

    def _shown(self, rho: Time, y: Tensor) -> tuple[Time, Tensor]:
        """When the network is shown y, and what it is shown, which is x."""
        if isinstance(rho, Tensor):
            rho = rho.to(y.dtype)
        return self.schedule.time(rho), like(self.schedule.scale(rho), y) * y


def check_denoiser(name: str, denoiser: nn.Module) -> None:
    """Raise `InputError` where something else is given in its place."""
    if not isinstance(denoiser, Denoiser):
        raise InputError(
            f"{name} got a {type(denoiser).__name__}; it needs a Denoiser, which says what the network tells: "
            "Denoiser(net, schedule, prediction)"
        )
