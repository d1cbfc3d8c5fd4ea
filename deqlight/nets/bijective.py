"""Station: the network that loses nothing: entries that can be undone, and the way back from features to the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.nn import functional as F

from ..controllers import AdaptiveSteps
from ..errors import InputError, ShapeError
from ..integrate import walk
from ..solvers import ReversibleSolver, Solver
from ..types import State, Tensor, Time
from .depth import DepthNet, step_times
from .lift import Identity, Split
from .stage import Stage

__all__ = ["Bijective", "Unshuffle", "Widen", "undo"]


@runtime_checkable
class Bijective(Protocol):
    """A module that can be undone: a stem, or the entry of a stage."""

    def undo(self, y: Tensor) -> Tensor:
        """The input whose output is `y`."""


class Unshuffle(nn.Module):
    """Squares of `factor`² pixels become channels: size shrinks, width grows, and nothing is lost.

    Args:
        factor: by how much height and width shrink; both must be divisible by it.

    Raises:
        InputError: for a factor below 1.
        ShapeError: from `forward`, for other images.

    Reference: Jacobsen, Smeulders & Oyallon, i-RevNet, ICLR 2018 (arXiv 1802.07088).
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        if factor < 1:
            raise InputError(f"Unshuffle got factor={factor}; it must be at least 1")
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels · factor², height / factor, width / factor)` of `(batch, channels, height, width)`."""
        if any(side % self.factor for side in x.shape[-2:]):
            raise ShapeError(f"Unshuffle got images of shape {tuple(x.shape)}; {self.factor} must divide their sides")
        return F.pixel_unshuffle(x, self.factor)

    def undo(self, y: Tensor) -> Tensor:
        """The pixels in their places."""
        return F.pixel_shuffle(y, self.factor)


class Widen(nn.Module):
    """Channels of zeros behind those of the images: room for features, from which the images can be read again.

    Args:
        in_channels: channels of the images.
        channels: channels of the features.

    Raises:
        InputError: for fewer channels than those of the images.
        ShapeError: from `forward`, for other images.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        if not 1 <= in_channels <= channels:
            raise InputError(f"Widen got {in_channels} channels to {channels}; it adds channels")
        self.in_channels, self.channels = in_channels, channels

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` of `(batch, in_channels, height, width)`."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(f"Widen got images of shape {tuple(x.shape)}; in_channels is {self.in_channels}")
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - self.in_channels))

    def undo(self, y: Tensor) -> Tensor:
        """The first channels."""
        return y[:, : self.in_channels]


@torch.no_grad()
def undo(net: DepthNet, features: Tensor) -> Tensor:
    """The input that a network made these features of, up to rounding: all that it knows of the input is in them.

    The way back goes through each stage by its solver's `unstep` and through entries and stem by their `undo`. In
    training BatchNorm has other statistics on the way back than forth: call `net.eval()` first.

    Args:
        net: a network whose stem and entries are `Bijective`, as `Unshuffle` and `Widen`, and whose solver is a
            one-step method that can be undone, such as `SymplecticEuler`.
        features: what `net.features` gave, `(batch, channels, height, width)`.

    Raises:
        InputError: for a part that cannot be undone.

    Reference: Jacobsen, Smeulders & Oyallon, i-RevNet, ICLR 2018 (arXiv 1802.07088).
    """
    for stage, solver in reversed(list(zip(cast("Iterable[Stage]", net.stages), net.solvers, strict=True))):
        features = _undone(stage.entry, "an entry", _back(net, stage, solver, features))
    return _undone(net.stem, "the stem", features)


def _undone(module: nn.Module, what: str, y: Tensor) -> Tensor:
    if isinstance(module, nn.Identity):
        return y
    if not isinstance(module, Bijective):
        raise InputError(f"undo got {what} {type(module).__name__}, which cannot be undone; use Unshuffle or Widen")
    return module.undo(y)


def _back(net: DepthNet, stage: Stage, solver: Solver, y: Tensor) -> Tensor:
    """The features that entered a stage's equation."""
    if not isinstance(solver, ReversibleSolver) or solver.info.steps > 1:
        raise InputError(
            f"undo got the solver {solver!r}; it needs a one-step method that can be undone, such as SymplecticEuler: "
            "others have a memory that features do not tell"
        )
    if not isinstance(stage.lift, Identity | Split):
        raise InputError(f"undo got the lift {type(stage.lift).__name__}, of whose state features are a part")

    def visit(n: int, t0: Time, t1: Time, state: State) -> State:
        return solver.unstep(stage.term.over(t0, t1), t0, t1, state, None).y

    if isinstance(net.controller, AdaptiveSteps):
        raise InputError(f"undo got steps by {type(net.controller).__name__}; it needs a fixed grid: Constant, or none")
    return stage.lift.lower(walk(step_times(stage, net.controller), visit, stage.lift.lift(y), backward=True))
