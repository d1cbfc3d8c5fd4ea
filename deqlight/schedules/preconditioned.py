"""Station: how much noise at which time. EDM's frame around a network: what goes in and comes out has variance 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from ..states import like
from ..types import Tensor, Time
from .numbers import Number, log, sqrt

__all__ = ["Preconditioned"]


@dataclass(frozen=True)
class Preconditioned:
    """The estimate of the data is c_skip y + c_out F(c_in y; c_noise), of y = x₀ + σ ε and a network F.

    For a schedule with another α, y is x/α and σ is ρ. A value: it holds no network.

    Args:
        sigma_data: the standard deviation of the data.

    Raises:
        InputError: for a deviation that is not positive and finite.

    Reference: Karras et al., arXiv 2206.00364, table 1 and appendix B.6.

    >>> Preconditioned(sigma_data=0.5).c_skip(0.5)
    0.5
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise InputError(
                f"Preconditioned got sigma_data={self.sigma_data}; it must be positive and finite: the standard "
                "deviation of the data, 0.5 for images between -1 and 1"
            )

    def c_skip(self, sigma: Number) -> Number:
        """σ_data²/(σ² + σ_data²), of what goes by the network: 1 without noise."""
        return self.sigma_data**2 / self._variance(sigma)

    def c_out(self, sigma: Number) -> Number:
        """σ σ_data/√(σ² + σ_data²), of what comes out of the network. A loss weighted by 1/c_out² is that of F."""
        return sigma * self.sigma_data / sqrt(self._variance(sigma))

    def c_in(self, sigma: Number) -> Number:
        """1/√(σ² + σ_data²), of what goes into the network."""
        return 1 / sqrt(self._variance(sigma))

    def c_noise(self, sigma: Number) -> Number:
        """¼ log σ, what the network is told of the noise."""
        return log(sigma) / 4

    def data(self, value: Tensor, y: Tensor, sigma: Time) -> Tensor:
        """The estimate of the data, c_skip y + c_out F.

        Args:
            value: what the network told, F, `(batch, *state)`.
            y: the data and their noise, `(batch, *state)`.
            sigma: how much of it: a float, or one number a sample, `(batch,)` or `(batch, 1, …)`.
        """
        return like(self.c_skip(sigma), y) * y + like(self.c_out(sigma), y) * value

    def target(self, x0: Tensor, y: Tensor, sigma: Time) -> Tensor:
        """What the network should tell, (x₀ − c_skip y)/c_out: of variance 1, if that of the data is σ_data².

        Args:
            x0: the data, `(batch, *state)`.
            y: the data and their noise, `(batch, *state)`.
            sigma: how much of it: a float, or one number a sample, `(batch,)` or `(batch, 1, …)`.
        """
        return (x0 - like(self.c_skip(sigma), y) * y) / like(self.c_out(sigma), y)

    def _variance(self, sigma: Number) -> Number:
        return sigma * sigma + self.sigma_data**2
