"""Integrators: each is an architecture, a neural-ODE solver and, if it can be undone, a low-memory gradient."""

from .base import Inner, ReversibleSolver, Solver, SolverInfo, Step
from .explicit import RK4, Dopri5, Euler, ExplicitRungeKutta, Heun, Midpoint
from .multistep import AB2, Leapfrog, LinearTwoStep, Stormer
from .symplectic import SymplecticEuler, Verlet
from .tableau import Tableau

__all__ = [
    "AB2",
    "RK4",
    "Dopri5",
    "Euler",
    "ExplicitRungeKutta",
    "Heun",
    "Inner",
    "Leapfrog",
    "LinearTwoStep",
    "Midpoint",
    "ReversibleSolver",
    "Solver",
    "SolverInfo",
    "Step",
    "Stormer",
    "SymplecticEuler",
    "Tableau",
    "Verlet",
]
