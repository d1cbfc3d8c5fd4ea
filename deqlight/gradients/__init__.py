"""Gradient methods: how autograd goes through a solve."""

from .base import Gradient
from .direct import Direct
from .reversible import Reversible

__all__ = ["Direct", "Gradient", "Reversible"]
