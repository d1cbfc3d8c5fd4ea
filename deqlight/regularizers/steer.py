"""Station: noise in training, in time. The solve ends a little sooner or later at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..brownian.key import Per
from ..errors import InputError
from ..terms import ODETerm, Term
from ..terms.stretched import Stretched
from .base import Regularizer

__all__ = ["Steer"]


@dataclass(frozen=True)
class Steer(Regularizer):
    """A random end: the equation is solved to T ~ U(T₁ − b, T₁ + b) in training, and to T₁ in evaluation.

    The steps stay where they are; time runs faster or slower through them, which is the same solution. Each solve has
    one end for all its samples, as published.

    Args:
        width: b, above 0 or 0 for none; less than the length of the solve.
        key: `sample` draws each solve's end by the step alone, the same on all processes; `rank` for each process.

    Raises:
        InputError: for a negative width; from `wrap`, for terms with layers or jumps; from a solve that is too short.

    Reference: Ghosh, Behl, Dupont, Torr & Namboodiri, STEER: Simple Temporal Regularization for Neural ODEs, NeurIPS
    2020 (arXiv 2006.10711).
    """

    width: float = 0.5
    key: Per = "sample"

    def __post_init__(self) -> None:
        if not (self.width >= 0 and math.isfinite(self.width)):
            raise InputError(f"Steer got width={self.width}; it must be at least 0")
        if self.key not in ("sample", "rank"):
            raise InputError(f"Steer got key={self.key!r}; it must be 'sample' or 'rank'")

    def wrap(self, term: Term) -> Term:
        """The term in its own time."""
        if self.width == 0:
            return term
        if not isinstance(term, ODETerm) or term.jump_times:
            raise InputError(
                f"Steer got the term {type(term).__name__}; it goes with an ODETerm without jumps, whose end "
                "can be moved"
            )
        return Stretched(term, self.width, self.key)
