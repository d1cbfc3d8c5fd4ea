"""Station: the way back. A gradient method wraps an integration so that autograd can go through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import torch

from ..controllers import Controller
from ..problem import Path, Problem
from ..solvers import Solver

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NO_GRAPH", "Gradient", "goes_its_own_way_back"]

NO_GRAPH = (
    "this gradient rule has a way back of its own, which no graph can hold; use the gradient Direct, or leave out "
    "fullgraph=True: the solve then runs eagerly between two graphs"
)
"""Why `torch.compile` refuses a whole network as one graph."""


class Gradient(ABC):
    """How the gradient of a solve is computed. Parameter gradients are returned through autograd, never written."""

    events: ClassVar[bool] = False
    """Whether it differentiates the events of a solve."""

    exact: ClassVar[bool] = True
    """Whether the gradient is that of the steps that were taken, up to rounding; else it is that of the equation."""

    steady: ClassVar[bool] = False
    """Whether it is that of a state at rest: then solves are differentiated at their end, and must come to rest."""

    traced: ClassVar[bool] = False
    """Whether a graph of `torch.compile` can hold it; else a solve that needs gradients runs eagerly, between two."""

    def __repr__(self) -> str:
        return type(self).__name__

    @classmethod
    def examples(cls) -> Iterable[Self]:
        """The instances that the conformance kit measures."""
        return (cls(),)

    @abstractmethod
    def integrate(self, problem: Problem) -> Path:
        """Integrate the problem such that the result can be differentiated."""

    def check(self, solver: Solver, controller: Controller) -> None:  # noqa: B027  most methods accept all
        """Raise `InputError` if the method cannot work with this solver and controller."""


def goes_its_own_way_back(*_: object, gradient: Gradient | None = None, **__: object) -> bool:
    """Whether a call of `solve` has a gradient rule that no graph can hold, and needs it."""
    return gradient is not None and not gradient.traced and torch.is_grad_enabled()
