"""Integrators: each is an architecture, a neural-ODE solver and, if it can be undone, a low-memory gradient."""

from .adams import AB1, AB3, AB4, ABM2, ABM3, ABM4
from .analytic import AnalyticDPM, NoisePower, noise_power
from .ancestral import DDPM, SDEDPMpp2M
from .angular import AngularPC
from .base import Inner, ReversibleSolver, Solver, SolverInfo, Step
from .bdf import BDF2
from .collocation import Collocation, GaussLegendre4, GaussLegendre6, ImplicitEuler, ImplicitMidpoint, RadauIIA5
from .ddim import DDIM, EDMHeun
from .deis import DEIS, PNDM
from .denoising import DenoisingSolver
from .dormand_prince import Dopri5, Dopri8
from .dpm import DPMFast, DPMpp2S, DPMSolver2, DPMSolver3
from .dpmpp import DPMpp2M, DPMpp3M
from .embedded import Bosh3, Tsit5
from .esdirk import ESDIRK, Kvaerno3, Kvaerno5, Theta, Trapezoid
from .explicit import RK4, RK38, SSPRK3, Euler, ExplicitRungeKutta, Heun, Midpoint, Ralston
from .exponential import ETD1, ETD2, ETDRK4
from .imex import IMEXEuler, KenCarp4
from .implicit import ImplicitSolver
from .learned import LearnedRungeKutta
from .milstein import Milstein, StratonovichMilstein
from .momentum import Momentum
from .multistep import AB2, Leapfrog, LinearTwoStep, Stormer
from .noisy import NoisySampler
from .reversible import AsynchronousLeapfrog, ReversibleHeun, ReversiblePair
from .rosenbrock import Rodas4
from .score import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from .series import Neumann
from .srk import SRK
from .stabilised import RKC
from .stratonovich import EulerHeun, LogODE
from .symplectic import Ruth3, SymplecticEuler, Verlet, Yoshida4
from .tableau import Tableau
from .unipc import UniPC
from .weak import Platen
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
    "DDIM",
    "DDPM",
    "DEIS",
    "ESDIRK",
    "ETD1",
    "ETD2",
    "ETDRK4",
    "PNDM",
    "RK4",
    "RK38",
    "RKC",
    "SRK",
    "SSPRK3",
    "AnalyticDPM",
    "AngularPC",
    "AsynchronousLeapfrog",
    "Bosh3",
    "Collocation",
    "DPMFast",
    "DPMSolver2",
    "DPMSolver3",
    "DPMpp2M",
    "DPMpp2S",
    "DPMpp3M",
    "DenoisingSolver",
    "Dopri5",
    "Dopri8",
    "EDMHeun",
    "Euler",
    "EulerHeun",
    "EulerMaruyama",
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
    "LearnedRungeKutta",
    "LinearTwoStep",
    "LogODE",
    "Midpoint",
    "Milstein",
    "Momentum",
    "Neumann",
    "NoisePower",
    "NoisySampler",
    "Platen",
    "PredictorCorrector",
    "RadauIIA5",
    "Ralston",
    "ReverseDiffusion",
    "ReversibleHeun",
    "ReversiblePair",
    "ReversibleSolver",
    "Rodas4",
    "Ruth3",
    "SDEDPMpp2M",
    "Solver",
    "SolverInfo",
    "Step",
    "StepDoubling",
    "Stormer",
    "StratonovichMilstein",
    "SymplecticEuler",
    "Tableau",
    "Theta",
    "Trapezoid",
    "Tsit5",
    "UniPC",
    "Verlet",
    "Yoshida4",
    "noise_power",
]
