"""Station: the fractal network: columns of convolutions, of depths that double, which join in their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..brownian import Stream, lasting_stream, next_stream
from ..errors import InputError, check_word
from ..fields.conv import conv3x3
from ..regularizers.depth import Whose
from ..types import Tensor

__all__ = ["FractalBlock"]

Norm = Callable[[int], nn.Module]


class FractalBlock(nn.Module):
    """f_C of f_{C+1}(u) = join[f_C(f_C(u)), conv(u)], f₁ = conv, with drop-path: a block of a FractalNet.

    Written out, `columns` of convolutions side by side, the first of them one, the next two, then four deep and so on;
    wherever columns end together they join in the mean of the live ones, and all of them go on from it. It has no
    shortcut, u itself is nowhere in the sum, and so it is no step of an equation; f₂, ½ (conv conv u + conv u), has the
    shape of a Runge–Kutta step less its first term (Lu et al. 2018, arXiv 1710.10121).

    Drop-path, in training. Local: a join drops each of its inputs with probability p, but never all. Global: a sample
    sees one column alone, the same through all blocks of the network. Nothing is rescaled; in evaluation all columns
    live. What is drawn is a function of (seed, step, sample), as all noise here. Columns are computed whether they live
    or not, and BatchNorm's statistics are those of all samples.

    Args:
        in_channels: channels of the input.
        channels: channels of the result.
        columns: number of columns, C; the deepest has 2ᶜ⁻¹ convolutions.
        p: the probability that a join drops an input.
        alone: the share of samples that see one column alone.
        per: whether each `sample` has draws of its own, or the `batch` has one, as published.
        norm: makes a normalisation layer for a number of channels.

    Raises:
        InputError: without columns, for what are no probabilities, and for another word.

    Reference: Larsson, Maire & Shakhnarovich, FractalNet, ICLR 2017 (arXiv 1605.07648).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        columns: int = 3,
        p: float = 0.15,
        alone: float = 0.5,
        per: Whose = "sample",
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if columns < 1 or not (0.0 <= p < 1.0 and 0.0 <= alone <= 1.0):
            raise InputError(
                f"FractalBlock got columns={columns}, p={p:g}, alone={alone:g}; it needs at least one column, p in "
                "[0, 1) and alone in [0, 1]"
            )
        check_word("FractalBlock", "per", per, ("sample", "batch"))
        self.columns, self.p, self.alone, self.per = columns, p, alone, per
        self.convs = nn.ModuleList(
            _conv(channels if n else in_channels, channels, norm) for c in range(columns) for n in range(2**c)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `(batch, channels, height, width)` of `(batch, in_channels, height, width)`."""
        drop = _Drop(self, x) if self.training and (self.p or self.alone) else None
        inputs, spans = [x] * self.columns, [2 ** (self.columns - 1 - c) for c in range(self.columns)]
        for row in range(1, spans[0] + 1):
            ending = [c for c, span in enumerate(spans) if row % span == 0]
            values = [self.convs[2**c - 2 + row // spans[c]](inputs[c]) for c in ending]
            joined = values[0] if len(values) == 1 else _mean(values, None if drop is None else drop.live(ending))
            for c in ending:
                inputs[c] = joined
        return inputs[0]


class _Drop:
    """What is drawn for one pass through a block."""

    def __init__(self, block: FractalBlock, x: Tensor) -> None:
        whole = block.per == "batch"
        self.p, self.like = block.p, x.new_empty(1 if whole else len(x), dtype=torch.float32)
        self.local = _whose(next_stream(), whole)
        alone, which = _whose(lasting_stream(), whole).uniform(2, self.like).unbind(1)
        self.alone, self.which = alone < block.alone, (which * block.columns).long()

    def live(self, ending: Sequence[int]) -> Tensor:
        """Which of the columns that join are live, `(samples, inputs)`: at least one of each sample."""
        inputs = len(ending)
        *kept, spared = self.local.uniform(inputs + 1, self.like).unbind(1)
        places = torch.arange(inputs, device=self.like.device)
        live = torch.stack(kept, 1) >= self.p
        live = live | (~live.any(1, keepdim=True) & ((spared * inputs).long()[:, None] == places))
        column = torch.tensor(ending, device=self.like.device) == self.which[:, None]
        # where the one column does not end here, nothing that it sees hangs on the join
        chosen = self.alone[:, None] & column.any(1, keepdim=True)
        return torch.where(chosen, column, live)


def _whose(stream: Stream, whole: bool) -> Stream:
    return stream.shared() if whole else stream


def _mean(values: Sequence[Tensor], live: Tensor | None) -> Tensor:
    """The mean of the live ones, of each sample."""
    if live is None:
        return torch.stack(list(values)).mean(0)
    weights = (live / live.sum(1, keepdim=True)).to(values[0].dtype)  # (samples, inputs)
    parts = (w[:, None, None, None] * v for w, v in zip(weights.unbind(1), values, strict=True))
    return sum(parts, start=torch.zeros_like(values[0]))


def _conv(in_channels: int, channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(conv3x3(in_channels, channels), norm(channels), nn.ReLU())
