"""Where a residual vanishes: Newton's method, each sample by itself; gradients by the implicit function.

The equation is u = g(base + a u): of the increments u of coupled Runge–Kutta stages, or, with a = 1 and base = 0, of
the fixed point of a network. g acts on each sample, and on each stage, by itself.
"""

from .bracket import bracketed
from .derivative import implicit
from .newton import Map, Newton, Root
from .search import Search

__all__ = ["Map", "Newton", "Root", "Search", "bracketed", "implicit"]
