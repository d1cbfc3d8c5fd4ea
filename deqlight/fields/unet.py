"""Station: the vector field that is a U-Net: what noise, data or velocity a noisy image stands for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..states import leaves
from ..types import Tensor, Time
from .condition import Condition
from .embedding import Features, SinusoidalFeatures
from .norm import GroupNorm2d
from .unet_parts import UNetBlock, same_size, way_down, way_up
from .zeroed import zeroed

__all__ = ["UNet"]


class UNet(nn.Module):
    """The network of diffusion models on images: residual blocks down to small sizes and back, joined at each size.

    `field(t, y)` estimates noise, data or velocity, whatever it is trained for, where `t` is the label of the noise,
    one for each sample or one for all. `field(t, y, labels)` is told the classes. Before training the result is 0.

    The noise label moves each block (scale and shift behind its norm). Sizes halve from level to level by strided
    convolutions, and grow back by nearest neighbours and a convolution. Each block on the way up sees, besides, what a
    block on the way down made. No place knows where it is, but for the edges, where convolutions see zeros. Where
    pixels attend, second derivatives need torch's plain attention: `sdpa_kernel(SDPBackend.MATH)`.

    Classes: −1, or no labels at all, is the null class, which adds nothing to the condition: there the network is the
    unconditional one with the same other weights. In training each sample's class is hidden with the probability
    `label_drop`, a function of (seed, step, sample), as all noise here: one network learns both that guidance
    needs. Sample in evaluation, where nothing is hidden or left out.

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
        _check(width, dropout, {"channels": channels, "blocks": blocks, "groups": groups, "heads": heads})
        if not multipliers or min(multipliers) < 1:
            raise InputError(f"UNet got multipliers={list(multipliers)}; it needs at least one, each at least 1")
        sizes = [2**level for level in range(len(multipliers))]
        if not set(attention_at) <= set(sizes):
            raise InputError(
                f"UNet got attention_at={list(attention_at)}; its {len(sizes)} levels have 1/n of the sides, with n "
                f"among {', '.join(map(str, sizes))}: say those n, no numbers of pixels"
            )
        self.channels, self.factor = channels, sizes[-1]
        self.condition = Condition(width, 4 * width, classes, label_drop, features)
        wide = [width * multiplier for multiplier in multipliers]
        levels = [(n, m, heads if n in attention_at else 0) for n, m in zip(sizes, wide, strict=True)]
        block = partial(UNetBlock, width=4 * width, groups=groups, dropout=dropout)
        self.entry = same_size(channels, width)
        self.down, widths = way_down(levels, width, blocks, block)
        middle = [block(wide[-1], wide[-1], heads=n) for n in (heads if attention_at else 0, 0)]
        self.middle, self.up = nn.ModuleList(middle), way_up(levels, widths, blocks, block)
        self.norm, self.exit = GroupNorm2d(wide[0], groups), zeroed(same_size(wide[0], channels))

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


def _check(width: int, dropout: float, positive: dict[str, int]) -> None:
    for what, value in positive.items():
        if value < 1:
            raise InputError(f"UNet got {what}={value}; it needs at least 1")
    if width < 4 or width % 2:
        raise InputError(f"UNet got width={width}; it needs an even number, at least 4")
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"UNet got dropout={dropout:g}, a probability; it must lie in [0, 1)")
