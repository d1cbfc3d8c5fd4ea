"""Regularisers: changes of the equation that a network solves in training, and what its solve is charged for."""

from .base import Regularizer
from .cost import Cost
from .depth import ShakeDrop, StochasticDepth
from .dropout import Dropout, RandomBatch
from .gaussian import GaussianNoise
from .noise import NoiseRegularizer
from .shake import ShakeShake

__all__ = [
    "Cost",
    "Dropout",
    "GaussianNoise",
    "NoiseRegularizer",
    "RandomBatch",
    "Regularizer",
    "ShakeDrop",
    "ShakeShake",
    "StochasticDepth",
]
