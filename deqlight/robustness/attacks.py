"""Station: the trial. Images moved on purpose, within a bound, to where the network errs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..brownian import Key, Stream
from ..errors import InputError
from ..types import Tensor

__all__ = ["FGSM", "PGD", "Attack", "Losses"]

Losses = Callable[[Tensor], Tensor]
"""The loss of each image, `(batch,)`, as a function of the images."""


class Attack(ABC):
    """A way to move images within ε of where they are, in each pixel; a value that configs name."""

    eps: float

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return type(self).__name__.lower()

    @abstractmethod
    def __call__(self, losses: Losses, images: Tensor, ids: Tensor, seed: int = 0) -> Tensor:
        """The images moved, in [0, 1]; works where gradients are off, too.

        Args:
            losses: what to make large.
            images: `(batch, channels, height, width)`, in [0, 1].
            ids: what each image is known by, `(batch,)`, for random starts.
            seed: another seed, other starts.
        """


@dataclass(frozen=True)
class FGSM(Attack):
    """The fast gradient sign method: one step of length ε along the sign of the loss's gradient.

    Args:
        eps: ε, above 0.

    Reference: Goodfellow, Shlens & Szegedy, ICLR 2015 (arXiv 1412.6572).
    """

    eps: float = 0.1

    def __post_init__(self) -> None:
        _check("FGSM", eps=self.eps)

    def __call__(self, losses: Losses, images: Tensor, ids: Tensor, seed: int = 0) -> Tensor:
        """The images after that step."""
        return (images + self.eps * _slope(losses, images).sign()).clamp(0.0, 1.0)


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent: steps along the sign of the gradient, from a random place, put back within ε.

    Args:
        eps: ε, above 0.
        step: the length of a step; None takes 2.5 ε over the number of steps.
        steps: how many.

    Reference: Madry, Makelov, Schmidt, Tsipras & Vladu, ICLR 2018 (arXiv 1706.06083).
    """

    eps: float = 0.1
    steps: int = 20
    step: float | None = None

    def __post_init__(self) -> None:
        _check("PGD", eps=self.eps, steps=self.steps, step=1.0 if self.step is None else self.step)

    def __call__(self, losses: Losses, images: Tensor, ids: Tensor, seed: int = 0) -> Tensor:
        """The images after all steps."""
        length = 2.5 * self.eps / self.steps if self.step is None else self.step
        offset = 2.0 * Stream(Key(seed, 0, ids), 0).uniform(1, images)[:, 0] - 1.0
        moved = (images + self.eps * offset).clamp(0.0, 1.0)
        for _ in range(self.steps):
            moved = moved + length * _slope(losses, moved).sign()
            moved = torch.minimum(torch.maximum(moved, images - self.eps), images + self.eps).clamp(0.0, 1.0)
        return moved


def _slope(losses: Losses, images: Tensor) -> Tensor:
    """The gradient of each image's loss with respect to it."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.clone().detach().requires_grad_()
        return torch.autograd.grad(losses(leaf).sum(), leaf)[0]


def _check(name: str, **given: float) -> None:
    for what, value in given.items():
        if not value > 0:
            raise InputError(f"{name} got {what}={value}; it must be above 0")
