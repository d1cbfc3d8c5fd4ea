"""Integrators: each is an architecture, a neural-ODE solver and, if it can be undone, a low-memory gradient."""

from .adams import AB1, AB3, AB4, ABM2, ABM3, ABM4
from .base import Inner, ReversibleSolver, Solver, SolverInfo, Step
from .bdf import BDF2
from .collocation import Collocation, GaussLegendre4, GaussLegendre6, ImplicitEuler, ImplicitMidpoint, RadauIIA5
from .dormand_prince import Dopri5, Dopri8
from .embedded import Bosh3, Tsit5
from .esdirk import ESDIRK, Kvaerno3, Kvaerno5, Trapezoid
from .explicit import RK4, RK38, SSPRK3, Euler, ExplicitRungeKutta, Heun, Midpoint, Ralston
from .exponential import ETD1, ETD2, ETDRK4
from .imex import IMEXEuler, KenCarp4
from .implicit import ImplicitSolver
from .multistep import AB2, Leapfrog, LinearTwoStep, Stormer
from .reversible import AsynchronousLeapfrog, ReversibleHeun, ReversiblePair
from .rosenbrock import Rodas4
from .series import Neumann
from .stabilised import RKC
from .symplectic import Ruth3, SymplecticEuler, Verlet, Yoshida4
from .tableau import Tableau
from .wrappers import StepDoubling

__all__ = [
    "AB1",
    "AB2",
    "AB3",
    "AB4",
    "ABM2",
    "ABM3",
    "ABM4",
    "BDF2",
    "ESDIRK",
    "ETD1",
    "ETD2",
    "ETDRK4",
    "RK4",
    "RK38",
    "RKC",
    "SSPRK3",
    "AsynchronousLeapfrog",
    "Bosh3",
    "Collocation",
    "Dopri5",
    "Dopri8",
    "Euler",
    "ExplicitRungeKutta",
    "GaussLegendre4",
    "GaussLegendre6",
    "Heun",
    "IMEXEuler",
    "ImplicitEuler",
    "ImplicitMidpoint",
    "ImplicitSolver",
    "Inner",
    "KenCarp4",
    "Kvaerno3",
    "Kvaerno5",
    "Leapfrog",
    "LinearTwoStep",
    "Midpoint",
    "Neumann",
    "RadauIIA5",
    "Ralston",
    "ReversibleHeun",
    "ReversiblePair",
    "ReversibleSolver",
    "Rodas4",
    "Ruth3",
    "Solver",
    "SolverInfo",
    "Step",
    "StepDoubling",
    "Stormer",
    "SymplecticEuler",
    "Tableau",
    "Trapezoid",
    "Tsit5",
    "Verlet",
    "Yoshida4",
]
