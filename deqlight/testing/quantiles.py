"""Station: the measuring bench. The probability flow of a mixture on the line, which keeps quantiles: known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from ..states import leaves
from ..terms import Denoising, ReverseSDE
from ..types import State, Tensor, Time
from .problem import Problem
from .told import told

__all__ = ["probability_flow", "reverse_equation"]

WEIGHTS, MEANS, STDS = (0.5, 0.3, 0.2), (-1.0, 0.4, 1.3), (0.5, 0.4, 0.6)
QUANTILES = ((0.04, 0.2, 0.47, 0.9), (0.1, 0.3, 0.55, 0.8), (0.15, 0.4, 0.7, 0.95))
"""Some for each sample: together their errors have no change of sign that an order could be misread from."""

NOISE = (2000.0, 0.5)
"""From much more noise than data, where samplers start with methods of low order at no cost, to less."""

MODERATE = (20.0, 0.5)
"""From so much noise to less where noise is drawn: orders are measured elsewhere."""

HALVINGS = 200


@dataclass(frozen=True, eq=False)
class Mixture:
    """Three Gaussians on the line with noise of standard deviation ρ, and quantiles of them, one for each sample."""

    dtype: torch.dtype
    quantiles: tuple[tuple[float, ...], ...] = QUANTILES

    def __call__(self, rho: Time, y: State) -> Tensor:
        """ε = −ρ d log p_ρ/dy at each number of `y` `(batch, points)`."""
        (leaf,) = leaves(y)
        level = torch.as_tensor(rho, dtype=leaf.dtype, device=leaf.device)  # one for all
        weights, means, stds = (leaf.new_tensor(row) for row in (WEIGHTS, MEANS, STDS))
        variances, apart = stds.square() + level.square(), leaf[..., None] - means  # (batch, points, components)
        logs = weights.log() - apart.square() / (2 * variances) - variances.log() / 2
        return level * (logs.softmax(-1) * apart / variances).sum(-1)

    def exact(self, rho: float) -> Tensor:
        """The points below which the noised mixture has these shares, `(batch, points)`: the flow moves none across."""
        rows = [[self._point(share, rho) for share in shares] for shares in self.quantiles]
        return torch.tensor(rows, dtype=self.dtype)

    def rows(self, index: Tensor) -> Mixture:
        """The mixture with the samples `index` alone."""
        return replace(self, quantiles=tuple(self.quantiles[i] for i in index.tolist()))

    def _point(self, share: float, rho: float) -> float:
        scales = [math.hypot(std, rho) for std in STDS]
        low, high = (sign * (2.0 + 8 * max(scales)) for sign in (-1, 1))
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = sum(
                w * math.erfc((m - middle) / (s * math.sqrt(2))) / 2
                for w, m, s in zip(WEIGHTS, MEANS, scales, strict=True)
            )
            low, high = (middle, high) if below < share else (low, middle)
        return 0.5 * (low + high)


class _Flow(Denoising):
    def rows(self, index: Tensor) -> _Flow:
        """The term of the samples `index` alone."""
        field: Mixture = self.field  # type: ignore[assignment]  # as it was made
        return self._replace(field=field.rows(index))


def probability_flow(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """dy/dρ = ε(ρ, y) from much noise to little; `span` and `scale` are those of other problems and not used."""
    mixture = Mixture(dtype)
    return Problem(_Flow(mixture), *NOISE, mixture.exact, geometric=True)


def reverse_equation(dtype: torch.dtype, span: float, scale: float) -> Problem:
    """The reverse equation of the mixture with the same noise in every run; `exact` is where it begins, and no more."""
    mixture = Mixture(dtype)
    term = told(ReverseSDE(mixture), mixture.exact(MODERATE[0]))._replace(_modules={"inner": _Flow(mixture)})
    return Problem(term, *MODERATE, mixture.exact, geometric=True)
