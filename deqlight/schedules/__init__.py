"""Noise schedules: how much noise at which time, and the values of ρ = σ/α that samplers step between."""

from .base import Schedule
from .cosine import Cosine
from .draws import Draw, LogitNormalDraw, LogNormalDraw, LogSNRDraw, UniformDraw
from .exploding import EDM, VE
from .flow import RectifiedFlow
from .grids import FlowTime, Grid, Karras, Quadratic, UniformLogSNR, UniformTime
from .linear_rate import VP, SubVP
from .preconditioned import Preconditioned
from .predictions import Prediction, target, to_data, to_eps
from .preserving import Preserving
from .table import CosineTable, DDPMTable, Table
from .trigonometric import Trigonometric

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "CosineTable",
    "DDPMTable",
    "Draw",
    "FlowTime",
    "Grid",
    "Karras",
    "LogNormalDraw",
    "LogSNRDraw",
    "LogitNormalDraw",
    "Preconditioned",
    "Prediction",
    "Preserving",
    "Quadratic",
    "RectifiedFlow",
    "Schedule",
    "SubVP",
    "Table",
    "Trigonometric",
    "UniformDraw",
    "UniformLogSNR",
    "UniformTime",
    "target",
    "to_data",
    "to_eps",
]
