"""Vector fields: modules `(t, y) -> dy/dt`."""

from .branches import Branches
from .conv import Antisymmetric, Bottleneck, ConcatConv, PreActivation
from .diffusion import AdditiveDiffusion, MatrixDiffusion, MultiplicativeDiffusion
from .linear import ChannelDecay, PeriodicDiffusion
from .norm import GroupNorm2d as GroupNorm2d  # for configs; no field itself, so not in the list of fields
from .poly import Poly
from .second_order import SecondOrder
from .skew import Skew
from .symmetric import Symmetric
from .vector import MLP

__all__ = [
    "MLP",
    "AdditiveDiffusion",
    "Antisymmetric",
    "Bottleneck",
    "Branches",
    "ChannelDecay",
    "ConcatConv",
    "MatrixDiffusion",
    "MultiplicativeDiffusion",
    "PeriodicDiffusion",
    "Poly",
    "PreActivation",
    "SecondOrder",
    "Skew",
    "Symmetric",
]
