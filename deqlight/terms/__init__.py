"""Right-hand sides: what a solver integrates."""

from ..states import axpy, combine, like
from .base import Term
from .layered import Layered
from .ode import ODETerm
from .partitioned import Partitioned

__all__ = ["Layered", "ODETerm", "Partitioned", "Term", "axpy", "combine", "like"]
