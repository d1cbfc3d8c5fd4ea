"""Gradient methods: how autograd goes through a solve."""

from ._shared import refuse_undeclared, watched_by
from .backsolve import Backsolve
from .base import Gradient
from .checkpoint import Checkpoint
from .direct import Direct
from .implicit import Implicit
from .reversible import Reversible

__all__ = ["Backsolve", "Checkpoint", "Direct", "Gradient", "Implicit", "Reversible", "refuse_undeclared", "watched_by"]
