"""Station: how much noise at which time. Schedules of discrete time: one β for each label of the network."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import InputError
from ..times import Array
from ..types import Tensor
from .cosine import check_cosine
from .numbers import Number, inside
from .preserving import Preserving

__all__ = ["CosineTable", "DDPMTable", "Table"]


@dataclass(frozen=True)
class Table(Preserving):
    """ᾱ of each label 0 … steps − 1, the product of 1 − β so far; label i stands at t = (i + 1)/steps.

    Between labels log α is a straight line. There is nothing before the first label or after the last.

    Args:
        steps: how many labels there are.
    """

    steps: int = 1000
    _totals: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """B at each label."""
    _rows: Tensor = field(init=False, repr=False, compare=False)
    """The same, and how much it grows until the next label, `(2, steps)`, in float64."""

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"{type(self).__name__} got steps={self.steps}; it needs at least 2 labels to go between")
        totals = np.cumsum(-np.log1p(-self.betas))
        object.__setattr__(self, "_totals", tuple(totals.tolist()))
        object.__setattr__(self, "_rows", torch.from_numpy(np.stack([totals, np.diff(totals, append=np.inf)])))

    @property
    @abstractmethod
    def betas(self) -> Array:
        """The share of ᾱ that each step takes, `(steps,)`."""

    @property
    def ends(self) -> tuple[float, float]:
        """The first label and the last."""
        return 1 / self.steps, 1.0

    def label(self, t: Number) -> Number:
        """What the network is told of the time: `steps · t − 1`, from 0 to `steps − 1`, whole where a label stands."""
        return inside(f"{type(self).__name__} got t", t, *self.ends) * self.steps - 1

    def beta(self, t: Number) -> Number:
        """The slope of B: that after a label, where one stands."""
        return self._part(self.label(t))[2] * self.steps

    def total(self, t: Number) -> Number:
        """−log ᾱ at the labels, straight in between."""
        label = self.label(t)
        place, before, gap = self._part(label)
        return before + (label - place) * gap

    def when(self, total: Number) -> Number:
        """The straight line's inverse."""
        total = inside(f"{type(self).__name__} got log(1 + rho²)", total, self._totals[0], self._totals[-1])
        place, before, gap = self._part(self._found(total))
        return (place + (total - before) / gap + 1) / self.steps

    def _found(self, total: Number) -> Number:
        """The last label where B is not above this."""
        if isinstance(total, Tensor):
            known = self._rows[0].to(total)
            return torch.searchsorted(known, total.detach().contiguous(), right=True).to(total) - 1
        return float(bisect_right(self._totals, total) - 1)

    def _part(self, label: Number) -> tuple[Number, Number, Number]:
        """The label before, B there, and how much it grows until the next one."""
        last = self.steps - 2
        if isinstance(label, Tensor):
            place = label.detach().nan_to_num(0.0).floor().clamp(0, last).long()
            before, gap = self._rows.to(label)[:, place]
            return place.to(label), before, gap
        at = min(max(math.floor(label), 0), last)
        return float(at), self._totals[at], self._totals[at + 1] - self._totals[at]


@dataclass(frozen=True)
class DDPMTable(Table):
    """The schedule of DDPM: β from `beta_start` to `beta_end`, in equal steps.

    Args:
        steps: how many labels there are.
        beta_start: β of the first.
        beta_end: β of the last.

    Raises:
        InputError: for less than two labels, and for β outside of (0, 1).

    Reference: Ho, Jain & Abbeel, Denoising Diffusion Probabilistic Models, NeurIPS 2020, arXiv 2006.11239, section 4;
    times between labels as in Lu et al., DPM-Solver, NeurIPS 2022, arXiv 2206.00927.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        if not (0 < self.beta_start < 1 and 0 < self.beta_end < 1):
            raise InputError(
                f"DDPMTable got beta_start={self.beta_start}, beta_end={self.beta_end}; both must lie between 0 and 1: "
                "those published are 1e-4 and 0.02, for 1000 steps"
            )
        super().__post_init__()

    @property
    def betas(self) -> Array:
        """The share of ᾱ that each step takes, `(steps,)`."""
        return np.linspace(self.beta_start, self.beta_end, self.steps)


@dataclass(frozen=True)
class CosineTable(Table):
    """The published cosine schedule: ᾱ ∝ cos²(½π (t + s)/(1 + s)) at t = i/steps, and no β above `clip`.

    Args:
        steps: how many labels there are.
        s: how far from zero the angle begins.
        clip: the largest β; of the published ones it is the last, which would be 1.

    Raises:
        InputError: for less than two labels, an `s` that is not positive, and a `clip` outside of (0, 1).

    Reference: Nichol & Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021, arXiv 2102.09672,
    section 3.2.
    """

    s: float = 0.008
    clip: float = 0.999

    def __post_init__(self) -> None:
        check_cosine("CosineTable", self.s, self.clip, self.steps)
        super().__post_init__()

    @property
    def betas(self) -> Array:
        """The share of ᾱ that each step takes, `(steps,)`."""
        angles = (np.arange(self.steps + 1) / self.steps + self.s) / (1 + self.s) * (math.pi / 2)
        a, b = angles[:-1], angles[1:]
        share = np.sin(b - a) * np.sin(a + b) / np.cos(a) ** 2  # 1 − cos² b/cos² a, without the difference
        return np.asarray(np.minimum(share, self.clip))
