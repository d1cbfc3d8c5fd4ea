"""Noise schedules: how much noise at which time, and the values of ρ = σ/α that samplers step between."""

from .base import Schedule
from .exploding import EDM, VE
from .grids import Grid, Karras, Quadratic, UniformLogSNR, UniformTime
from .preserving import VP, SubVP

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Grid",
    "Karras",
    "Quadratic",
    "Schedule",
    "SubVP",
    "UniformLogSNR",
    "UniformTime",
]
