"""Regularisers: changes of the equation that a network solves in training."""

from .base import Regularizer
from .cost import Cost

__all__ = ["Cost", "Regularizer"]
