"""Vector fields: modules `(t, y) -> dy/dt`."""

from .conv import Antisymmetric, ConcatConv, PreActivation
from .norm import GroupNorm

__all__ = ["Antisymmetric", "ConcatConv", "GroupNorm", "PreActivation"]
