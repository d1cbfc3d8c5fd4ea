"""Station 0, the noise: what is known of an interval besides W, and how that of neighbouring intervals adds up."""

from __future__ import annotations

import torch

from ..types import Tensor

__all__ = ["area_given", "joined_areas", "joined_integrals"]


def area_given(w: Tensor, u: Tensor, h: Tensor, normal: Tensor) -> Tensor:
    """A Lévy area `(…, channels, channels)` of an interval of length `h`, drawn given W and U `(…, channels)`.

    With H = U/h − W/2 it is H⊗W − W⊗H + b, where b is skew and b_ij has mean zero and variance
    h²/20 + h/5 (H_i² + H_j²): the true mean and variance given W and H, with a normal law in place of the true one.

    Args:
        w: the increment.
        u: the space-time integral ∫ (W(s) − W(t₀)) ds.
        h: the length, which broadcasts against `w`.
        normal: standard normal numbers `(…, channels, channels)`, of which those above the diagonal are used.

    Reference: Foster, Numerical approximations for stochastic differential equations, thesis, Oxford 2020, §3.
    """
    bend = u / h - 0.5 * w
    squares = bend.square()
    h = h[..., None]
    spread = (h.square() / 20 + h / 5 * (squares[..., :, None] + squares[..., None, :])).sqrt()
    upper = torch.triu(spread * normal, 1)
    turn = bend[..., :, None] * w[..., None, :]
    return turn - turn.mT + upper - upper.mT


def joined_integrals(w: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """U over several intervals one after the other, from W and U `(batch, intervals, *noise)` and their lengths."""
    before = w.cumsum(1) - w
    return (u + h * before).sum(1)


def joined_areas(w: Tensor, a: Tensor) -> Tensor:
    """A over several intervals, by Chen's relation: the areas of the parts, and those between their increments."""
    before = w.cumsum(1) - w
    between = before[..., :, None] * w[..., None, :]  # (batch, intervals, channels, channels)
    return (a + 0.5 * (between - between.mT)).sum(1)
