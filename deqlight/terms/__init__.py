"""Right-hand sides: what a solver integrates."""

from ..states import axpy, combine, like
from .base import Term
from .compound import Compound
from .conditional import Conditional as Conditional  # a field, no term, so not in the list of terms
from .converted import Converted
from .denoising import Denoising, Noised
from .diffused import Diffused
from .flows import DiagonalFlow, LinearFlow, MatrixFlow
from .layered import Layered
from .ode import ODETerm
from .partitioned import Partitioned
from .perturbed import Perturbed
from .reverse import ReverseSDE
from .sde import SDETerm
from .split import Semilinear, Split
from .stochastic import Drive, Slope, Stochastic

__all__ = [
    "Compound",
    "Converted",
    "Denoising",
    "DiagonalFlow",
    "Diffused",
    "Drive",
    "Layered",
    "LinearFlow",
    "MatrixFlow",
    "Noised",
    "ODETerm",
    "Partitioned",
    "Perturbed",
    "ReverseSDE",
    "SDETerm",
    "Semilinear",
    "Slope",
    "Split",
    "Stochastic",
    "Term",
    "axpy",
    "combine",
    "like",
]
