"""The samplers of deqlight as they are compared: solvers, grids, and how many steps a number of evaluations is."""

from __future__ import annotations

from collections.abc import Iterator

from samplers_truth import NFES, Flows, geometric
from torch import Tensor

from deqlight import SolverFailure
from deqlight.schedules import (
    VP,
    DDPMTable,
    FlowTime,
    Grid,
    Karras,
    Quadratic,
    Schedule,
    UniformLogSNR,
    UniformTime,
)
from deqlight.solvers import (
    DDIM,
    DEIS,
    PNDM,
    AngularPC,
    DenoisingSolver,
    DPMFast,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMSolver2,
    DPMSolver3,
    EDMHeun,
    UniPC,
)

SCHEDULES: dict[str, Schedule] = {"DDPMTable": DDPMTable(), "VP": VP()}

GRIDS: list[Grid] = [
    grid
    for zero in (False, True)
    for grid in (
        *(make(to_zero=zero) for make in (UniformTime, Quadratic, UniformLogSNR)),
        *(Karras(to_zero=zero, power=power) for power in (2.0, 3.0, 5.0, 7.0)),
        *(FlowTime(zero, power, scale) for scale in (1.0, 3.0) for power in (1.0, 1.5, 2.0, 2.5, 3.0)),
    )
]


def entrants() -> dict[str, list[DenoisingSolver]]:
    """All registered samplers without noise, by class: the instances among which the best is chosen."""
    return {
        "DDIM": [DDIM()],
        "DPMSolver2": [DPMSolver2()],
        "DPMSolver3": [DPMSolver3()],
        "DPMFast": [DPMFast()],
        "DPMpp2S": [DPMpp2S()],
        "DPMpp2M": [DPMpp2M(lower_final=lower) for lower in (True, False)],
        "DPMpp3M": [DPMpp3M(lower_final=lower) for lower in (True, False)],
        "DEIS": [
            DEIS(order, variable, lower)
            for order in (2, 3, 4)
            for variable in ("t", "rho", "lambda")
            for lower in (True, False)
        ],
        "PNDM": [PNDM()],
        "UniPC": [
            UniPC(order, variant, correct, lower)
            for order in (1, 2, 3)
            for variant in ("bh1", "bh2")
            for correct in (True, False)
            for lower in (True, False)
        ],
        "AngularPC": [
            AngularPC(order, scale, lower_final=lower)
            for order in (2, 3, 4)
            for scale in (1.0, 2.0)
            for lower in (True, False)
        ],
        "EDMHeun": [EDMHeun()],
    }


def planned(solver: DenoisingSolver, nfe: int, to_zero: bool) -> tuple[DenoisingSolver, int] | None:
    """A solver and how many steps it takes with so many evaluations at most; None if that is too few."""
    if isinstance(solver, DPMFast):
        if to_zero and nfe % 3 == 2:
            return None
        fast = DPMFast(nfe)
        return fast, fast.steps or 0
    info = solver.info
    steps = (nfe - info.nfe_start - (1 if to_zero and info.steps == 1 else 0)) // (info.nfe_step or 1)
    steps += 1 if to_zero and info.steps == 1 else 0
    return (solver, steps) if steps > 0 else None


def ended(solver: DenoisingSolver, grid: Grid, schedule: Schedule, nfe: int, flows: Flows) -> list[float] | None:
    """The errors of each mixture; None where it cannot be done."""
    plan = planned(solver, nfe, grid.to_zero)
    if plan is None:
        return None
    chosen, steps = plan
    rhos = grid.times(schedule, steps)
    try:
        y: Tensor = flows.solved(chosen, rhos, schedule=schedule)
    except SolverFailure:
        return None
    return flows.errors(y, rhos[0], rhos[-1])


def scored(solver: DenoisingSolver, grid: Grid, schedule: Schedule, flows: Flows) -> list[float]:
    """The geometric mean error at each of `NFES`; 1, the error of knowing nothing, where it cannot be done."""
    found = [ended(solver, grid, schedule, nfe, flows) for nfe in NFES]
    return [geometric(errors) if errors else 1.0 for errors in found]


def settings(name: str) -> Iterator[tuple[DenoisingSolver, Grid]]:
    """All that a class can be set to."""
    for solver in entrants()[name]:
        for grid in GRIDS:
            yield solver, grid
