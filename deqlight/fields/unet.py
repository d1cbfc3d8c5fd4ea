"""Station: the vector field that is a U-Net: what noise, data or velocity a noisy image stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..states import leaves
from ..types import Tensor, Time
from .condition import Condition
from .embedding import Features, SinusoidalFeatures
from .norm import GroupNorm2d
from .unet_parts import Shrink, UNetBlock, same_size
from .zeroed import zeroed

__all__ = ["UNet"]

Level: TypeAlias = tuple[int, int, int]
"""By how much the sides have shrunk, the channels of the features, the heads of the attention or 0."""


class UNet(nn.Module):
    """The network of diffusion models on images: residual blocks down to small sizes and back, joined at each size.

    `field(t, y)` estimates noise, data or velocity, whatever it is trained for, where `t` is the label of the noise,
    one for each sample or one for all. `field(t, y, labels)` is told the classes. Before training the result is exactly 0.

    The noise label moves each block (scale and shift behind its norm). Sizes halve from level to level by strided
    convolutions, and grow back by nearest neighbours and a convolution. Each block on the way up sees, besides, what a
    block on the way down made. No place knows where it is, but for the edges, where convolutions see zeros.

    Classes: −1, or no labels at all, is the null class, which adds nothing to the condition: there the network is the
    unconditional one with the same other weights. In training each sample's class is hidden with the probability
    `label_drop`, a function of (seed, step, sample), as all noise here. So one network knows both that
    guidance needs; sample in evaluation, where nothing is hidden or left out.

    Args:
        channels: channels of the images.
        width: channels of the features at full size, an even number.
        multipliers: how many times wider the features are at each level; as many levels as there are numbers.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention_at: where pixels attend to each other: 1 for full size, 2 for half the sides, 4 for a quarter of them.
            With any, the middle, between the way down and the way up, attends as well.
        classes: how many classes; None has none.
        label_drop: the probability that training hides the class of a sample.
        dropout: the probability of leaving out a number in each block; it follows torch's generator.
        groups: the largest number of groups of a norm.
        heads: heads of the attention; they must divide its channels.
        features: makes the features of noise labels: `SinusoidalFeatures`, for labels in [0, 1] unless told otherwise,
            or `FourierFeatures`.

    Raises:
        InputError: for sizes that make no sense; from `forward`, for classes that there are not.
        ShapeError: from `forward`, for images with other channels, or sides that do not halve so often, and labels that
            do not fit the batch.

    Reference: Ho, Jain & Abbeel, NeurIPS 2020 (arXiv 2006.11239), appendix B; Song et al., ICLR 2021 (arXiv
    2011.13456), appendix H; scale and shift, and heads, as in Dhariwal & Nichol, Diffusion Models Beat GANs, NeurIPS
    2021 (arXiv 2105.05233); Ho & Salimans 2022 (arXiv 2207.12598) for the null class.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention_at: Sequence[int] = (2,),
        classes: int | None = None,
        label_drop: float = 0.0,
        dropout: float = 0.0,
        groups: int = 32,
        heads: int = 4,
        features: Features = SinusoidalFeatures,
    ) -> None:
        super().__init__()
        sizes = [2**level for level in range(len(multipliers))]
        _check(channels, width, multipliers, blocks, attention_at, sizes)
        self.channels, self.factor = channels, sizes[-1]
        self.condition = Condition(width, 4 * width, classes, label_drop, features)
        levels = [
            (size, width * m, heads if size in attention_at else 0) for size, m in zip(sizes, multipliers, strict=True)
        ]
        block = partial(UNetBlock, width=4 * width, groups=groups, dropout=dropout)
        down, widths = _down(levels, width, blocks, block)
        now = widths[-1]
        self.entry, self.down = same_size(channels, width), down
        self.middle = nn.ModuleList([block(now, now, heads=heads if attention_at else 0), block(now, now, heads=0)])
        self.up = _up(levels, widths, blocks, block)
        self.norm = GroupNorm2d(levels[0][1], groups)
        self.exit = zeroed(same_size(levels[0][1], channels))

    def forward(self, t: Time, y: Tensor, labels: Tensor | None = None) -> Tensor:
        """The estimate, shaped as `y` `(batch, channels, height, width)`, in its dtype.

        Args:
            t: noise labels, a number or a tensor `(batch,)` or `(batch, 1, 1, 1)`.
            y: noisy images; the number of levels says how often their sides must halve.
            labels: classes `(batch,)`, whole numbers, negative for no class; None tells none of them.
        """
        self._check(y)
        condition = self.condition(t, y.shape[0], labels)
        found = self.entry(y)
        skips = [found]
        for block in self.down:
            found = block(found, condition)
            skips.append(found)
        for block in self.middle:
            found = block(found, condition)
        for block in self.up:
            found = block(torch.cat([found, skips.pop()], 1), condition)
        return self.exit(F.silu(self.norm(found))).to(y.dtype)  # type: ignore[no-any-return]  # a module's call is untyped

    def _check(self, y: Tensor) -> None:
        parts = leaves(y)
        if len(parts) != 1 or y.dim() != 4 or y.shape[1] != self.channels:
            shapes = [tuple(part.shape) for part in parts]
            raise ShapeError(
                f"UNet got a state of shapes {shapes}; it needs images (batch, {self.channels}, height, width)"
            )
        if y.shape[2] % self.factor or y.shape[3] % self.factor:
            few = ", ".join(str(n * self.factor) for n in (1, 2, 3))
            raise ShapeError(
                f"UNet got images of {y.shape[2]}×{y.shape[3]} pixels; its levels need sides that are "
                f"multiples of {self.factor}: {few}, …; pad the images, or take fewer multipliers"
            )


def _down(
    levels: Sequence[Level], now: int, blocks: int, block: Callable[..., UNetBlock]
) -> tuple[nn.ModuleList, list[int]]:
    """The way down, and the channels of the features at its beginning and behind each of its modules."""
    found, widths = nn.ModuleList(), [now]
    for size, wide, heads in levels:
        if size > 1:
            found.append(Shrink(now))
            widths.append(now)
        for _ in range(blocks):
            found.append(block(now, wide, heads=heads))
            widths.append(now := wide)
    return found, widths


def _up(levels: Sequence[Level], widths: Sequence[int], blocks: int, block: Callable[..., UNetBlock]) -> nn.ModuleList:
    """The way up: each block takes what the one before it made, and the last of what is left from the way down."""
    found, now, left = nn.ModuleList(), widths[-1], list(widths)
    for size, wide, heads in reversed(levels):
        for n in range(blocks + 1):
            found.append(block(now + left.pop(), wide, heads=heads, grow=n == blocks and size > 1))
            now = wide
    return found


def _check(
    channels: int,
    width: int,
    multipliers: Sequence[int],
    blocks: int,
    attention_at: Sequence[int],
    sizes: Sequence[int],
) -> None:
    if min(channels, blocks, *multipliers, 1) < 1 or not multipliers:
        raise InputError(
            f"UNet got channels={channels}, multipliers={list(multipliers)}, blocks={blocks}; it needs at least "
            "one level, and at least 1 of each"
        )
    if width < 4 or width % 2:
        raise InputError(f"UNet got width={width}; it needs an even number, at least 4")
    if not set(attention_at) <= set(sizes):
        raise InputError(
            f"UNet got attention_at={list(attention_at)}; its {len(sizes)} levels have 1/n of the sides, with n among "
            f"{', '.join(map(str, sizes))}: say those n, no numbers of pixels"
        )
