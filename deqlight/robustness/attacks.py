"""Station: the trial. Images moved on purpose, within a bound, to where the network errs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..brownian import Key, Stream
from ..errors import InputError
from ..types import Tensor
from .images import check_images

__all__ = ["FGSM", "PGD", "Attack", "Losses"]

Losses = Callable[[Tensor], Tensor]
"""The loss of each image, `(batch,)`, as a function of the images."""


class Attack(ABC):
    """A way to move images within ε of where they are, in each pixel; a value that configs name."""

    eps: float
    """ε, in the units of images in [0, 1]."""
    steps: int
    """How often it looks at the gradient; of two attacks within one ε, that with more steps is the stronger one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in logs: one name for all that it is made of, `fgsm_0.1`."""

    @abstractmethod
    def move(self, losses: Losses, images: Tensor, start: Stream) -> Tensor:
        """The images moved, in [0, 1]; `start` has random numbers of each."""

    def __call__(self, losses: Losses, images: Tensor, ids: Tensor, seed: int = 0) -> Tensor:
        """The images moved, in [0, 1]; works where gradients are off, too.

        Args:
            losses: what to make large.
            images: `(batch, channels, height, width)`, in [0, 1].
            ids: what each image is known by, `(batch,)`, for random starts.
            seed: another seed, other starts.

        Raises:
            InputError: for images that are not in [0, 1], and for a loss without a gradient, or with one that is not
                finite.
            ShapeError: for what are no images.
        """
        check_images(type(self).__name__, images)
        return self.move(losses, images, Stream(Key(seed, 0, ids), 0))


@dataclass(frozen=True)
class FGSM(Attack):
    """The fast gradient sign method: one step of length ε along the sign of the loss's gradient.

    Args:
        eps: ε, above 0, at most 1.

    Reference: Goodfellow, Shlens & Szegedy, ICLR 2015 (arXiv 1412.6572).
    """

    eps: float = 0.1
    steps: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        _check("FGSM", self.eps)

    @property
    def name(self) -> str:
        """Such as `fgsm_0.1`."""
        return f"fgsm_{self.eps:g}"

    def move(self, losses: Losses, images: Tensor, start: Stream) -> Tensor:
        """The images after that step."""
        return (images + self.eps * _slope(losses, images).sign()).clamp(0.0, 1.0)


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent: steps along the sign of the gradient, from a random place, put back within ε.

    Args:
        eps: ε, above 0, at most 1.
        steps: how many.
        step: the length of a step; None takes 2.5 ε over the number of steps.

    Reference: Madry, Makelov, Schmidt, Tsipras & Vladu, ICLR 2018 (arXiv 1706.06083).
    """

    eps: float = 0.1
    steps: int = 20
    step: float | None = None

    def __post_init__(self) -> None:
        _check("PGD", self.eps, steps=self.steps, step=1.0 if self.step is None else self.step)

    @property
    def name(self) -> str:
        """Such as `pgd20_0.1`, of 20 steps within 0.1."""
        return f"pgd{self.steps}_{self.eps:g}"

    def move(self, losses: Losses, images: Tensor, start: Stream) -> Tensor:
        """The images after all steps."""
        length = 2.5 * self.eps / self.steps if self.step is None else self.step
        moved = (images + self.eps * (2.0 * start.uniform(1, images)[:, 0] - 1.0)).clamp(0.0, 1.0)
        for _ in range(self.steps):
            moved = moved + length * _slope(losses, moved).sign()
            moved = torch.minimum(torch.maximum(moved, images - self.eps), images + self.eps).clamp(0.0, 1.0)
        return moved


def _slope(losses: Losses, images: Tensor) -> Tensor:
    """The gradient of each image's loss with respect to it."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.clone().detach().requires_grad_()
        total = losses(leaf).sum()
        slope = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
    if slope is None:
        raise InputError("an attack got a loss that has no gradient in the images; does the network detach them?")
    if not bool(slope.isfinite().all()):
        raise InputError("an attack got a gradient that is not finite; its images would mean nothing")
    return slope


def _check(name: str, eps: float, **given: float) -> None:
    for what, value in {"eps": eps, **given}.items():
        if not value > 0:
            raise InputError(f"{name} got {what}={value}; it must be above 0")
    if eps > 1:
        raise InputError(f"{name} got eps={eps}; images lie in [0, 1], so that 8 of 255 is {8 / 255:.3g}")
