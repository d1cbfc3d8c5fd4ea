"""Work and precision: what an error costs, in field evaluations and in time, by family of integrators.

Five problems in the style of DETEST (Enright & Pryce 1987) and of the stiff test sets (Hairer & Wanner 1996), float64,
one thread; each solver is run over a range of tolerances, or of steps, and its largest relative error at the end is set
against the evaluations of the field and the seconds of process time (the least of three runs). References are SciPy's,
at a tolerance far below all errors shown.

    python benchmarks/work_precision.py [--quick | --draw]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import scipy
import torch
from scipy.integrate import solve_ivp

from deqlight import ODETerm, Partitioned, SolverFailure, Term, solve
from deqlight.controllers import PID, Constant, Controller
from deqlight.solvers import (
    AB4,
    ABM4,
    ETD2,
    ETDRK4,
    RK4,
    RKC,
    Bosh3,
    Dopri5,
    Dopri8,
    Euler,
    Heun,
    IMEXEuler,
    ImplicitMidpoint,
    KenCarp4,
    Kvaerno3,
    Kvaerno5,
    RadauIIA5,
    Rodas4,
    Ruth3,
    Solver,
    SymplecticEuler,
    Tsit5,
    Verlet,
    Yoshida4,
)
from deqlight.terms import MatrixFlow, Semilinear
from deqlight.testing.timing import machine

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

RESULTS = Path(__file__).with_suffix(".json")
FIGURE = Path(__file__).parents[1] / "docs" / "explanation" / "work_precision.png"
RUNS = 3
CELLS = 32
"""Cells of the reaction–diffusion problem."""


@dataclass(frozen=True)
class Case:
    """A problem, the solvers that are compared on it, and what each is run with."""

    title: str
    term: Term
    y0: torch.Tensor | tuple[torch.Tensor, ...]
    end: float
    exact: np.ndarray
    runs: dict[str, tuple[Solver, list[Controller]]]


def tolerances(low: int, high: int, atol: float = 1.0) -> list[Controller]:
    """PID controllers from 10^-low to 10^-high."""
    return [PID(10.0**-k, atol * 10.0**-k, norm="joint") for k in range(low, high + 1)]


def steps(*counts: int) -> list[Controller]:
    """Equal steps."""
    return [Constant(steps=n) for n in counts]


def reference(
    field: Callable[[float, np.ndarray], np.ndarray], y0: Iterable[float], end: float, method: str
) -> np.ndarray:
    """SciPy's solution at the end."""
    return solve_ivp(field, (0, end), list(y0), method=method, rtol=1e-12, atol=1e-14).y[:, -1]


def orbit_step(y: torch.Tensor) -> torch.Tensor:
    """The two-body problem, positions and velocities side by side."""
    q, v = y.split(2, 1)
    return torch.cat([v, -q / q.square().sum(1, keepdim=True) ** 1.5], 1)


def orbit() -> Case:
    """DETEST D3: an orbit of eccentricity 0.5, here over three periods."""
    e, end = 0.5, 6 * np.pi
    start = [1 - e, 0.0, 0.0, np.sqrt((1 + e) / (1 - e))]
    y0 = torch.tensor([start], dtype=torch.float64)
    runs = {
        "Bosh3": (Bosh3(), tolerances(3, 8)),
        "Dopri5": (Dopri5(), tolerances(4, 11)),
        "Tsit5": (Tsit5(), tolerances(4, 11)),
        "Dopri8": (Dopri8(), tolerances(5, 12)),
        "RK4": (RK4(), steps(200, 400, 800, 1600, 3200)),
        "AB4": (AB4(), steps(800, 1600, 3200, 6400)),
        "ABM4": (ABM4(), steps(400, 800, 1600, 3200)),
        "Heun": (Heun(), steps(800, 1600, 3200, 6400)),
    }
    exact = np.array(start)  # periodic
    return Case("two bodies (DETEST D3), three periods", ODETerm(lambda t, y: orbit_step(y)), y0, end, exact, runs)


def driven_oscillator() -> Case:
    """A non-autonomous oscillator: van der Pol's at μ = 1, driven."""

    def field(t: float, y: torch.Tensor) -> torch.Tensor:
        a, b = y.unbind(1)
        force = torch.cos(torch.as_tensor(2 * t, dtype=y.dtype))
        return torch.stack([b, (1 - a * a) * b - a + force], 1)

    end, start = 20.0, [2.0, 0.0]
    exact = reference(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0] + np.cos(2 * t)], start, end, "DOP853")
    runs = {
        "Euler": (Euler(), steps(1000, 4000, 16000)),
        "Heun": (Heun(), steps(200, 800, 3200)),
        "RK4": (RK4(), steps(100, 200, 400, 800, 1600)),
        "ABM4": (ABM4(), steps(400, 800, 1600)),
        "Bosh3": (Bosh3(), tolerances(3, 8)),
        "Tsit5": (Tsit5(), tolerances(3, 10)),
        "Dopri8": (Dopri8(), tolerances(4, 11)),
    }
    y0 = torch.tensor([start], dtype=torch.float64)
    return Case("driven van der Pol, μ = 1 (not autonomous)", ODETerm(field), y0, end, exact, runs)


def pendulum() -> Case:
    """A Hamiltonian system over a long time, by methods that keep its structure."""
    end, start = 50.0, (1.2, 0.3)
    exact = reference(lambda t, y: [y[1], -np.sin(y[0])], start, end, "DOP853")
    y0 = tuple(torch.tensor([[x]], dtype=torch.float64) for x in start)
    counts = steps(250, 500, 1000, 2000, 4000)
    runs = {
        "SymplecticEuler": (SymplecticEuler(), counts),
        "Verlet": (Verlet(), counts),
        "Ruth3": (Ruth3(), counts),
        "Yoshida4": (Yoshida4(), counts),
        "ImplicitMidpoint": (ImplicitMidpoint(), steps(250, 500, 1000)),
        "RK4": (RK4(), counts),
    }
    term = Partitioned(lambda t, p: p, lambda t, q: -torch.sin(q))
    return Case("pendulum, eight periods (Hamiltonian)", term, y0, end, exact, runs)


def oregonator() -> Case:
    """The Oregonator, a stiff relaxation oscillation (Hairer & Wanner 1996, §IV.1)."""

    def field(t: float, y: torch.Tensor) -> torch.Tensor:
        a, b, c = y.unbind(1)
        return torch.stack([77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)], 1)

    def same(t: float, y: np.ndarray) -> list[float]:
        a, b, c = y
        return [77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)]

    start, end = [1.0, 2.0, 3.0], 30.0
    runs = {
        "Kvaerno3": (Kvaerno3(), tolerances(2, 7, 1e-2)),
        "Kvaerno5": (Kvaerno5(), tolerances(3, 10, 1e-2)),
        "RadauIIA5": (RadauIIA5(), tolerances(3, 10, 1e-2)),
        "Rodas4": (Rodas4(), tolerances(3, 9, 1e-2)),
    }
    y0 = torch.tensor([start], dtype=torch.float64)
    exact = reference(same, start, end, "Radau")
    return Case("Oregonator, t = 30 (stiff)", ODETerm(field), y0, end, exact, runs)


def reaction_diffusion() -> Case:
    """Allen and Cahn's equation on an interval: diffusion is linear and stiff, the reaction is neither."""
    h = 1 / CELLS
    laplace = (np.diag(np.full(CELLS, -2.0)) + np.eye(CELLS, k=1) + np.eye(CELLS, k=-1)) / h**2 * 0.05
    laplace[0, 0] = laplace[-1, -1] = -0.05 / h**2  # no flux through the ends
    x = (np.arange(CELLS) + 0.5) * h
    start, end = 0.6 * np.cos(2 * np.pi * x) + 0.2 * np.sin(np.pi * x), 1.0
    exact = reference(lambda t, y: laplace @ y + y - y**3, start, end, "Radau")
    term = Semilinear(MatrixFlow(torch.from_numpy(laplace)), lambda t, y: y - y**3)
    counts = steps(10, 20, 40, 80, 160)
    runs = {
        "ETD2": (ETD2(), counts),
        "ETDRK4": (ETDRK4(), counts),
        "IMEXEuler": (IMEXEuler(), steps(20, 80, 320)),
        "KenCarp4": (KenCarp4(), tolerances(3, 8)),
        "RKC, 10 stages": (RKC(10), tolerances(2, 6)),
        "Dopri5": (Dopri5(), tolerances(2, 8)),
        "Kvaerno5": (Kvaerno5(), tolerances(2, 8)),
    }
    y0 = torch.from_numpy(start)[None]
    return Case(f"Allen–Cahn, {CELLS} cells (semilinear)", term, y0, end, exact, runs)


def measured(case: Case, quick: bool) -> dict[str, list[dict[str, float]]]:
    """Error, evaluations and seconds of every run; a run that fails is left out, and said."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, (solver, controllers) in case.runs.items():
        points = []
        for controller in controllers[:3] if quick else controllers:
            try:
                points.append(point(case, solver, controller, 1 if quick else RUNS))
            except SolverFailure as failure:
                print(f"  {name}: {failure}")
        found[name] = points
    return found


def point(case: Case, solver: Solver, controller: Controller, runs: int) -> dict[str, float]:
    """One solve, timed."""
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        with torch.no_grad():
            solution = solve(
                case.term, case.y0, [0.0, case.end], solver=solver, controller=controller, max_steps=100_000
            )
        seconds.append(time.process_time() - started)
    end = torch.cat(solution.y1, 1) if isinstance(solution.y1, tuple) else solution.y1
    error = np.abs(end[0].numpy() - case.exact).max() / np.abs(case.exact).max()
    return {"error": float(error), "nfe": int(solution.stats.nfe[0]), "seconds": min(seconds)}


def draw(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """A row for each problem: error against evaluations, and against time."""
    figure, rows = plt.subplots(len(results), 2, figsize=(11, 3.6 * len(results)), sharey="row", squeeze=False)
    for row, (title, curves) in zip(rows, results.items(), strict=True):
        for axes, key, label in zip(row, ("nfe", "seconds"), ("field evaluations", "seconds, one thread"), strict=True):
            for number, (name, points) in enumerate(curves.items()):
                style = {"marker": "osD^vP*X"[number % 8], "markersize": 4, "linewidth": 1.2, "label": name}
                axes.loglog([p[key] for p in points], [p["error"] for p in points], **style)
            axes.set(xlabel=label)
            axes.grid(alpha=0.3)
            axes.xaxis.set_minor_formatter(NullFormatter())
        row[0].set(ylabel="relative error at the end", title=title)
        row[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measure, print, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three points a curve, timed once, nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what was measured last")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.draw:
        draw(json.loads(RESULTS.read_text())["results"])
        return
    results = {}
    for make in (orbit, driven_oscillator, pendulum, oregonator, reaction_diffusion):
        case = make()
        print(case.title)
        results[case.title] = measured(case, given.quick)
        for name, points in results[case.title].items():
            best = min(points, key=lambda p: p["error"], default=None)
            print(f"  {name:18} {len(points)} runs; best: {best}")
    if given.quick:
        return
    about = machine() | {"scipy": scipy.__version__}
    RESULTS.write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")
    draw(results)


if __name__ == "__main__":
    main()
