"""Right-hand sides: what a solver integrates."""

from ..states import axpy, combine, like
from .base import Term
from .compound import Compound
from .flows import DiagonalFlow, LinearFlow, MatrixFlow
from .layered import Layered
from .ode import ODETerm
from .partitioned import Partitioned
from .split import Semilinear, Split

__all__ = [
    "Compound",
    "DiagonalFlow",
    "Layered",
    "LinearFlow",
    "MatrixFlow",
    "ODETerm",
    "Partitioned",
    "Semilinear",
    "Split",
    "Term",
    "axpy",
    "combine",
    "like",
]
