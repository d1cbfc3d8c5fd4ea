"""Regularisers: changes of the equation that a network solves in training, and what its solve is charged for."""

from ..costs import Cost, RunningCost, StepCost, WeightCost
from .base import Regularizer
from .depth import ShakeDrop, StochasticDepth
from .dropout import Dropout, RandomBatch
from .gaussian import GaussianNoise
from .noise import NoiseRegularizer
from .path import DropPath
from .running import JacobianFrobenius, Kinetic, Taylor
from .shake import ShakeShake
from .smoothness import Smoothness
from .steer import Steer
from .steps import ErrorEstimate, Stiffness

__all__ = [
    "Cost",
    "DropPath",
    "Dropout",
    "ErrorEstimate",
    "GaussianNoise",
    "JacobianFrobenius",
    "Kinetic",
    "NoiseRegularizer",
    "RandomBatch",
    "Regularizer",
    "RunningCost",
    "ShakeDrop",
    "ShakeShake",
    "Smoothness",
    "Steer",
    "StepCost",
    "Stiffness",
    "StochasticDepth",
    "Taylor",
    "WeightCost",
]
