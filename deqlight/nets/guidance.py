"""Station: between a network and a sampler: estimates that are told a class, and how much they are to heed it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from ..errors import InputError, ShapeError
from ..fields.hidden import NO_CLASS
from ..schedules import Schedule
from ..states import like
from ..terms.conditional import Conditional, rows_of
from ..terms.derivative import leaf_of, pulled
from ..types import Tensor, Time

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ClassifierFree", "ClassifierGuidance", "Guidance", "Labelled", "Told"]

Labelled: TypeAlias = Callable[..., Tensor]
"""A field `(ρ, y, labels) -> ε`, or `(ρ, y)` where it is told no class."""


class Guidance(ABC):
    """How much an estimate of noise heeds a class; a value that configs name."""

    @abstractmethod
    def guide(self, field: Labelled, labels: Tensor) -> Conditional:
        """The field `(ρ, y) -> ε` of samples of these classes, for `Denoising` and the like.

        Args:
            field: `(ρ, y, labels) -> ε`; called without labels it tells of all classes together.
            labels: the class of each sample, `(batch,)`, whole numbers; −1 for none.

        Raises:
            ShapeError: for labels that are not; from the field, for another number of samples.
        """


class Told(Conditional):
    """A field that is told the classes of its samples: `(ρ, y) -> field(ρ, y, labels)`.

    Args:
        field: `(ρ, y, labels) -> ε`, a module or a function.
        labels: the class of each sample, `(batch,)`, whole numbers; −1 is no class.

    Raises:
        ShapeError: for labels that are not `(batch,)` whole numbers; from `forward`, for another number of samples.
    """

    labels: Tensor

    def __init__(self, field: Labelled, labels: Tensor) -> None:
        super().__init__()
        if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ShapeError(
                f"{type(self).__name__} got labels of shape {tuple(labels.shape)} and {labels.dtype}; it needs whole "
                "numbers, one for each sample: (batch,)"
            )
        self.field = field
        self.register_buffer("labels", labels, persistent=False)

    def forward(self, t: Time, y: Tensor) -> Tensor:
        """The estimate in `y` `(batch, *state)` at ρ = `t`, shaped as `y`."""
        if len(self.labels) != len(y):
            raise ShapeError(f"{type(self).__name__} has {len(self.labels)} labels and got {len(y)} samples; one each")
        return self.estimate(t, y)

    def estimate(self, t: Time, y: Tensor) -> Tensor:
        """The field's, told the classes."""
        return self.field(t, y, self.labels)

    def rows(self, index: Tensor) -> Self:
        """The field of the samples `index` alone."""
        return self.of(rows_of(self.field, index), self.labels[index])

    def of(self, field: Labelled, labels: Tensor) -> Self:
        """The same of another field and other samples."""
        return type(self)(field, labels)


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """Classifier-free guidance: ε_∅ + s (ε_c − ε_∅), by one network that was trained with and without classes.

    s = 1 is the conditional estimate and s = 0 the unconditional one, each at one call of the network; else both are
    the halves of one call with twice the samples. Above 1 samples are more of their class than those of the data, and
    no longer distributed as these. The paper counts by w = s − 1: (1 + w) ε_c − w ε_∅.

    Args:
        scale: s.

    Raises:
        InputError: for a scale that is not finite.

    Reference: Ho & Salimans, Classifier-Free Diffusion Guidance, 2022 (arXiv 2207.12598), equation 6.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale("ClassifierFree", self.scale, "1 is the conditional estimate alone")

    def guide(self, field: Labelled, labels: Tensor) -> Conditional:
        """The field of the guided estimate."""
        if self.scale == 0.0:
            return Told(field, torch.full_like(labels, NO_CLASS))
        return Told(field, labels) if self.scale == 1.0 else _Doubled(field, labels, self.scale)


class _Doubled(Told):
    """Both estimates from one call, and beyond."""

    def __init__(self, field: Labelled, labels: Tensor, scale: float) -> None:
        super().__init__(field, labels)
        self.scale = scale

    def estimate(self, t: Time, y: Tensor) -> Tensor:
        """ε_∅ + s (ε_c − ε_∅)."""
        labels = torch.cat([self.labels, torch.full_like(self.labels, NO_CLASS)])
        both = torch.cat([t, t]) if isinstance(t, Tensor) and t.dim() else t
        told, free = self.field(both, torch.cat([y, y]), labels).chunk(2)
        return torch.lerp(free, told, self.scale)

    def of(self, field: Labelled, labels: Tensor) -> Self:
        """The same of another field and other samples."""
        return type(self)(field, labels, self.scale)


@dataclass(frozen=True)
class ClassifierGuidance(Guidance):
    """Classifier guidance: ε − w σ ∇ log p(c | x), the estimate of a network that knows no classes, and a classifier.

    In the variables of `Denoising` it is ε − w ρ ∇_y log p(c | α y), for ρ ∇_y = σ ∇_x; w = 1 is Bayes' rule, the
    conditional estimate of an exact pair. The weight counts as `ClassifierFree`'s s does, from the unconditional
    estimate, and not as the w of that paper, which counts from the conditional one.

    Args:
        classifier: `(t, x) -> logits`, `(batch, classes)`, trained on noisy x at the schedule's times; samples must
            not mix.
        scale: w.
        schedule: what makes (t, x) of (ρ, y); None calls the classifier with (ρ, y).

    Raises:
        InputError: for a scale that is not finite.

    Reference: Dhariwal & Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021 (arXiv 2105.05233),
    algorithm 2.
    """

    classifier: nn.Module | Callable[[Time, Tensor], Tensor]
    scale: float = 1.0
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        _check_scale("ClassifierGuidance", self.scale, "1 is Bayes' rule")

    def guide(self, field: Labelled, labels: Tensor) -> Conditional:
        """The field of the guided estimate; that of `field` is asked for without labels."""
        return _Pushed(field, labels, self)


class _Pushed(Told):
    """An estimate that is told no class, moved by a classifier; a sample of no class is left alone."""

    def __init__(self, field: Labelled, labels: Tensor, by: ClassifierGuidance) -> None:
        super().__init__(field, labels)
        self.by, self.classifier = by, by.classifier  # a module's weights are counted among those of the field

    def estimate(self, t: Time, y: Tensor) -> Tensor:
        """ε − w ρ ∇ log p(c | y)."""
        eps = self.field(t, y)
        return eps - self.by.scale * like(t, y) * self._slope(t, y)

    def of(self, field: Labelled, labels: Tensor) -> Self:
        """The same of another field and other samples."""
        return type(self)(field, labels, self.by)

    def _slope(self, t: Time, y: Tensor) -> Tensor:
        """∇_y log p(c | y), shaped as `y`; differentiable where gradients are on."""
        wanted = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            inputs, time, schedule = leaf_of(y, wanted), like(t, y), self.by.schedule
            known = (time, inputs) if schedule is None else (schedule.time(time), schedule.scale(time) * inputs)
            logs = self.classifier(*known).log_softmax(-1)
            own = logs.gather(1, self.labels.clamp(min=0).long()[:, None])[:, 0]
            (slope,) = pulled(own, inputs, (self.labels >= 0).to(own)[None].unbind(), create_graph=wanted)
        return slope if wanted else slope.detach()


def _check_scale(name: str, scale: float, one: str) -> None:
    if not math.isfinite(scale):
        raise InputError(f"{name} got scale={scale}; it must be finite: {one}")
