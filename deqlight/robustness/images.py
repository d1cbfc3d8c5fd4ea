"""Station: the trial. What all that changes images takes: four axes, and numbers in [0, 1]."""

from __future__ import annotations

from ..errors import InputError, ShapeError
from ..types import Tensor

__all__ = ["check_images"]


def check_images(name: str, images: Tensor) -> None:
    """Refuse what is not `(batch, channels, height, width)`, and in [0, 1].

    Raises:
        ShapeError: for another number of axes.
        InputError: for numbers outside, NaN too.
    """
    if images.dim() != 4:
        raise ShapeError(
            f"{name} got a batch of shape {tuple(images.shape)}; it needs images, (batch, channels, height, width)"
        )
    if images.numel() and not (float(images.min()) >= 0.0 and float(images.max()) <= 1.0):
        raise InputError(
            f"{name} got images from {float(images.min()):.3g} to {float(images.max()):.3g}; they must lie in [0, 1]: "
            "scale the data so, and let the network subtract its means"
        )
