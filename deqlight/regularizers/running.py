"""Station: what a network is charged for along the way: how fast, how bent, how curved its trajectories are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from ..costs import RunningCost
from ..errors import InputError
from ..states import leaves
from ..terms.derivative import along, pulled
from ..types import State, Tensor, Time

__all__ = ["JacobianFrobenius", "Kinetic", "Taylor"]


@dataclass(frozen=True)
class Kinetic(RunningCost):
    """The kinetic energy ∫ ‖f(t, u)‖² dt: straight, even trajectories cost least.

    Args:
        weight: its weight in the loss.

    Reference: Finlay, Jacobsen, Nurbekyan & Oberman, How to Train Your Neural ODE, ICML 2020 (arXiv 2002.02798).
    """

    weight: float = 0.01

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """‖f‖² of each sample."""
        return squares(f)


@dataclass(frozen=True)
class JacobianFrobenius(RunningCost):
    """The Jacobian's size ∫ ‖εᵀ ∂f/∂u‖² dt with ε standard normal, an unbiased estimate of ∫ ‖∂f/∂u‖²_F dt.

    ε is drawn once per solve for each sample, by its key; one backward pass through each evaluation.

    Args:
        weight: its weight in the loss.

    Reference: Finlay, Jacobsen, Nurbekyan & Oberman, How to Train Your Neural ODE, ICML 2020 (arXiv 2002.02798).
    """

    noisy: ClassVar[bool] = True
    derives: ClassVar[bool] = True

    weight: float = 0.01

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """‖εᵀ ∂f/∂u‖² of each sample."""
        return squares(pulled(f, y, leaves(cast(State, direction)), create_graph=True))


@dataclass(frozen=True)
class Taylor(RunningCost):
    """The size of the solution's derivative ∫ ‖dᵏu/dtᵏ‖² dt: what a method of order k − 1 errs by.

    By nested directional derivatives: 2ᵏ⁻¹ evaluations of the field for each that the solver makes, from order 2 on.

    Args:
        order: k, at least 1; `order=1` is `Kinetic`.
        weight: its weight in the loss.

    Raises:
        InputError: for an order below 1.

    Reference: Kelly, Bettencourt, Johnson & Duvenaud, Learning Differential Equations that are Easy to Solve, NeurIPS
    2020 (arXiv 2007.04504).
    """

    derives: ClassVar[bool] = True

    order: int = 2
    weight: float = 0.01

    def check(self) -> None:
        """Refuse an order below 1."""
        if self.order < 1:
            raise InputError(f"Taylor got order={self.order}; it must be at least 1")

    def rate(
        self, field: Callable[[Time, State], State], t: Time, y: State, f: State, direction: State | None
    ) -> Tensor:
        """‖dᵏu/dtᵏ‖² of each sample."""
        leaf = leaves(y)[0]
        time = 0.0 * leaf.sum() + (t if isinstance(t, Tensor) else leaf.new_tensor(t))  # a part of the state's graph
        derivative = field
        for _ in range(self.order - 1):
            derivative = _total(derivative, field)
        return squares(f if self.order == 1 else derivative(time, y))


def squares(y: State) -> Tensor:
    """The sum of the squares of each sample's numbers, `(batch,)`."""
    return sum((leaf.flatten(1).square().sum(1) for leaf in leaves(y)), torch.zeros((), dtype=leaves(y)[0].dtype))


def _total(fn: Callable[[Time, State], State], field: Callable[[Time, State], State]) -> Callable[[Time, State], State]:
    """The derivative of `fn` along the solutions of `field`: ∂fn/∂t + ∂fn/∂u f."""

    def derivative(t: Time, y: State) -> State:
        time, single = cast(Tensor, t), not isinstance(y, tuple)

        def whole(z: State) -> State:
            first, *rest = leaves(z)
            return fn(first, rest[0] if single else tuple(rest))

        def ways(value: State) -> list[State]:
            f = value if fn is field else field(t, y)
            return [(torch.ones_like(time), *leaves(f))]

        return along(whole, (time, *leaves(y)), ways)[1][0]

    return derivative
