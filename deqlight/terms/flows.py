"""Station: the right-hand side, where it is linear: L y, and the functions of L that exponential integrators need."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn

from ..errors import InputError, ShapeError
from ..states import leaves, like
from ..types import State, Tensor, Time

__all__ = ["Diagonal", "DiagonalFlow", "LinearFlow", "MatrixFlow"]

SERIES_WITHIN, SERIES_TERMS = 1.0, 20
"""Where |z| is smaller than the first, φ(z) is summed; 1/20! is below what float64 resolves."""


class LinearFlow(nn.Module, ABC):
    """A linear operator L on states of one tensor, called as a field: `flow(t, y)` is L y.

    φ₀(z) = eᶻ and φₖ₊₁(z) = (φₖ(z) − 1/k!)/z; φₖ(hL) y is what a step of length h needs.
    Reference: Hochbruck & Ostermann, Acta Numerica 19 (2010), eq. 2.10.
    """

    @abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """L y, shaped as `y`; does not depend on `t`."""

    @abstractmethod
    def phi(self, k: int, h: Time, y: State) -> State:
        """φₖ(hL) y, for k from 0 to 3; `h` is a float, or `(batch, 1, ...)`."""

    def resolvent(self, h: Time) -> Callable[[State], State] | None:
        """(I − hL)⁻¹ as a function of y, where it is known at once; None where methods have to solve for it."""
        return None


class Diagonal(LinearFlow):
    """L = a diagonal matrix: each number of the state decays (or grows) at a rate of its own."""

    @property
    @abstractmethod
    def diagonal(self) -> Tensor:
        """The rates; they broadcast against a sample of the state, `(*state)`."""

    def forward(self, t: Time, y: State) -> Tensor:
        """`diagonal · y`."""
        return self.diagonal * only(self, y)

    def phi(self, k: int, h: Time, y: State) -> Tensor:
        """φₖ(h · diagonal) · y."""
        leaf = only(self, y)
        return phi(k, self.diagonal * like(h, leaf)) * leaf

    def resolvent(self, h: Time) -> Callable[[State], State]:
        """`y / (1 − h · diagonal)`."""

        def divided(y: State) -> Tensor:
            leaf = only(self, y)
            return leaf / (1.0 - self.diagonal * like(h, leaf))

        return divided


class DiagonalFlow(Diagonal):
    """L = diag(rates), with given rates.

    Args:
        rates: broadcasts against a sample of the state, `(*state)`; learnt if it is an `nn.Parameter`.
    """

    rates: Tensor

    def __init__(self, rates: Tensor) -> None:
        super().__init__()
        if isinstance(rates, nn.Parameter):
            self.rates = rates
        else:
            self.register_buffer("rates", rates)

    @property
    def diagonal(self) -> Tensor:
        """The rates."""
        return self.rates


class MatrixFlow(LinearFlow):
    """L = a dense matrix on the last axis of the state, y ↦ y Lᵀ.

    Args:
        matrix: L, `(n, n)`; learnt if it is an `nn.Parameter`.

    Raises:
        InputError: if it is not square.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"MatrixFlow got a tensor of shape {tuple(matrix.shape)}; it needs a square matrix")
        if isinstance(matrix, nn.Parameter):
            self.matrix = matrix
        else:
            self.register_buffer("matrix", matrix)

    def forward(self, t: Time, y: State) -> Tensor:
        """`y Lᵀ` on the last axis."""
        return only(self, y) @ self.matrix.T

    def phi(self, k: int, h: Time, y: State) -> Tensor:
        """φₖ(hL) on the last axis, from a corner of the exponential of a larger matrix: cubes of its size a call.

        Slow parts come out to a relative accuracy of about eps · ‖hL‖. Reference: Al-Mohy & Higham, SIAM J. Sci.
        Comput. 33 (2011), eq. 2.1.
        """
        leaf, n = only(self, y), len(self.matrix)
        step = torch.as_tensor(h, dtype=leaf.dtype, device=leaf.device).reshape(-1, 1, 1)  # (batch or 1, 1, 1)
        big = self.matrix.new_zeros(len(step), (k + 1) * n, (k + 1) * n)
        big[:, :n, :n] = step * self.matrix
        for i in range(k):
            big[:, i * n : (i + 1) * n, (i + 1) * n : (i + 2) * n] = torch.eye(n, dtype=leaf.dtype, device=leaf.device)
        corner = torch.linalg.matrix_exp(big)[:, :n, k * n :]  # (batch or 1, n, n)
        rows = leaf.reshape(len(step), leaf.shape[:-1].numel() // max(len(step), 1), n)
        value: Tensor = rows @ corner.transpose(1, 2)
        return value.reshape(leaf.shape)


def only(flow: LinearFlow, y: State) -> Tensor:
    """The tensor that a state is; raises `ShapeError` for states of several."""
    parts = leaves(y)
    if len(parts) != 1:
        raise ShapeError(f"{type(flow).__name__} got a state of {len(parts)} tensors; it acts on states of one")
    return parts[0]


def phi(k: int, z: Tensor) -> Tensor:
    """φₖ(z), number by number: a series near zero, the recurrence elsewhere."""
    if k == 0:
        return z.exp()
    near = z.abs() < SERIES_WITHIN
    small = torch.where(near, z, torch.zeros_like(z))
    series = torch.zeros_like(z)
    for n in reversed(range(SERIES_TERMS)):
        series = series * small + 1 / math.factorial(n + k)
    far = torch.where(near, torch.ones_like(z), z)
    value = far.exp()
    for j in range(k):
        value = (value - 1 / math.factorial(j)) / far
    return torch.where(near, series, value)
