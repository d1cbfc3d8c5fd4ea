"""Strong orders as the kit measures them: those known from theory, whatever paths are drawn."""

import pytest

from deqlight import testing
from deqlight.solvers import SRK, Euler, EulerHeun, Heun, LogODE, Milstein, StepDoubling

NEAR = 0.1  # what next terms and the choice of 1,200 paths leave; the kit allows 0.15

KNOWN = [
    (Euler(), "additive", 1.0),
    (Euler(), "diagonal", 0.5),
    (Euler(), "scalar", 0.5),
    (Euler(), "general", 0.5),
    (StepDoubling(Euler()), "diagonal", 0.5),
    (Milstein(), "diagonal", 1.0),
    (Milstein(), "scalar", 1.0),
    (SRK(), "additive", 1.5),
    (SRK(), "diagonal", 1.5),
    (SRK(), "scalar", 1.5),
    (Heun(), "scalar", 1.0),
    (EulerHeun(), "general", 0.5),
    (LogODE(), "general", 1.0),
]


@pytest.mark.parametrize(("solver", "noise", "order"), KNOWN, ids=str)
def test_strong_orders_of_theory(solver, noise, order):
    assert testing.strong_order(solver, noise) == pytest.approx(order, abs=NEAR)


@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("solver", [Euler(), SRK(), SRK(drift_order=3)], ids=repr)
def test_the_choice_of_paths_matters_little(solver, seed):
    claimed = solver.info.strong_order["diagonal"]
    assert testing.strong_order(solver, "diagonal", seed=seed) == pytest.approx(claimed, abs=NEAR)


CLAIMED = [
    (solver, noise)
    for solver in (Euler(), Heun(), SRK(), SRK(drift_order=3), LogODE())
    for noise in solver.info.strong_order
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 15))
@pytest.mark.parametrize(("solver", "noise"), CLAIMED, ids=str)
def test_no_choice_of_paths_fails_a_right_solver(solver, noise, seed):
    assert testing.strong_order(solver, noise, seed=seed) == pytest.approx(solver.info.strong_order[noise], abs=0.15)
