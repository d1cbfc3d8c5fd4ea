"""Station 1, the command `sample`: its picture. Images in a grid, points in the plane."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

__all__ = ["draw"]

MOST = 256
"""So many images at most stand in a picture."""

DOTS = 100
"""Per inch."""

Numbers = NDArray[np.floating[Any]]


def draw(path: Path, samples: Numbers) -> bool:
    """Draw samples `(count, *sample)`, if they are images (in [0, 1], one channel or three) or points in the plane.

    Raises:
        ConfigError: naming the extra, where matplotlib is not installed.
    """
    image = samples.ndim == 4 and samples.shape[1] in (1, 3)
    if not image and samples.shape[1:] != (2,):
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib: pip install 'deqlight[plots]'") from error
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    if image:
        axes.imshow(tiled(samples[:MOST]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.axis("off")
    else:
        axes.scatter(
            samples[:, 0], samples[:, 1], s=2, alpha=min(1.0, 30 / math.sqrt(len(samples))), linewidths=0, color="C0"
        )
        axes.set_aspect("equal")
        axes.set(xlabel="x₁", ylabel="x₂", title=f"{len(samples)} samples")
    figure.savefig(path, dpi=DOTS)
    return True


def tiled(images: Numbers) -> Numbers:
    """One image `(height, width)` or `(height, width, 3)` of many `(count, channels, height, width)`, cut to [0, 1]."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count)) if count % 10 else 10
    rows, gap = math.ceil(count / columns), max(1, height // 16)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image.clip(0, 1).transpose(1, 2, 0)
    return canvas[..., 0] if channels == 1 else canvas
