"""Station: the right-hand side, with noise. What a noise regulariser tells the terms that carry its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

from torch import nn

from ..brownian import Brownian
from ..brownian.key import Per
from ..types import FieldFn, Noise, Tensor
from .base import Term
from .layered import Layered
from .ode import ODETerm
from .stochastic import Slope

__all__ = ["Limit", "Source", "evaluated_by"]


Limit: TypeAlias = Literal["ode", "sde"]
"""What a network with ever more and shorter layers tends to."""


class Source(ABC):
    """Where the noise of a field comes from: a random value, and its mean and standard deviation."""

    law: ClassVar[Literal["uniform", "normal"]] = "uniform"
    """The law of the numbers that are drawn."""

    scaling: Limit
    """Whether the noise of a step is as published, or larger by 1/√Δt."""
    key: Per
    """Whose the draws are."""
    at_test: bool
    """Whether the noise goes on in evaluation."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many numbers it draws for each number of the noise in a step."""

    @property
    def lasting(self) -> int:
        """How many more it draws once for all steps, and for all solves under one key; the last of `numbers`."""
        return 0

    @property
    @abstractmethod
    def kind(self) -> Noise:
        """How the diffusion acts: `diagonal`, `scalar` or `additive`."""

    @abstractmethod
    def like(self, y: Tensor) -> Tensor:
        """A tensor of the shape of the noise, for a state `y` `(batch, *state)`; its numbers mean nothing."""

    @abstractmethod
    def perturbed(self, f: Tensor, y: Tensor, numbers: tuple[Tensor, ...], depth: float) -> Tensor:
        """The random value of the field, as published.

        Args:
            f: the field's value, shaped as the state.
            y: the state, `(batch, *state)`.
            numbers: what was drawn, `draws` and `lasting` tensors of the shape of the noise.
            depth: how far the step's end is on the way through the network, above 0, and 1 at the last.
        """

    @abstractmethod
    def moments(self, f: Tensor, y: Tensor, depth: float) -> Slope:
        """The drift and the diffusion: mean and standard deviation of `perturbed`, both shaped as the state."""

    @property
    @abstractmethod
    def brownian(self) -> Brownian:
        """How the Brownian motion of the diffusion limit is drawn."""

    def skips(self, numbers: tuple[Tensor, ...], depth: float) -> bool:
        """Whether the field need not be evaluated, for its value would be zero for all samples."""
        return False

    def field(self, field: FieldFn | nn.Module) -> FieldFn | nn.Module:
        """The field as it is evaluated for `perturbed` and `moments`; itself, unless they need more than its value."""
        return field

    def cell(self, middle: float) -> int | None:
        """The number of the interval whose noise a step around `middle` sees; None where each step has its own."""
        return None

    def edges(self, low: float, high: float) -> tuple[float, ...]:
        """The ends of those intervals strictly between two times."""
        return ()


def evaluated_by(term: Term, source: Source) -> Term:
    """The term with each field as the noise needs it evaluated; itself where that is as ever."""
    if isinstance(term, ODETerm):
        field = source.field(term.field)
        return term if field is term.field else ODETerm(field, term.context, term.jump_times)
    if not isinstance(term, Layered):
        return term
    fields = [layer.field for layer in term.layers]
    new = [source.field(field) for field in fields]  # type: ignore[arg-type]  # an ODETerm's field is callable
    return term if all(a is b for a, b in zip(new, fields, strict=True)) else Layered(new)
