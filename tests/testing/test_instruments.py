"""Each instrument of the kit by itself, on solvers whose numbers are known in closed form."""

import copy
import math
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from deqlight import InputError, ODETerm, testing
from deqlight.cli.commands import check
from deqlight.cli.line import read
from deqlight.gradients import Reversible
from deqlight.solvers import (
    AB2,
    RK4,
    Euler,
    GaussLegendre4,
    Heun,
    ImplicitEuler,
    Leapfrog,
    RadauIIA5,
    StepDoubling,
    Stormer,
    SymplecticEuler,
    Trapezoid,
)
from deqlight.solvers import SolverInfo as Info
from deqlight.states import leaves
from deqlight.terms import Layered, Partitioned, Semilinear, Split, Term
from deqlight.testing import conformance, problem_for, rulebook
from deqlight.testing.networks import network
from deqlight.testing.probes import bent, pendulum
from deqlight.testing.stiff import prothero_robinson, stiffening

CLAIMS = (Path(__file__).parents[2] / "docs" / "plugin" / "claims.md").read_text()
SAMPLE = 0.01  # two samples of a stability interval, relatively
EXACT = 1e-12
SLOPE = 1e-6  # central differences of a solution over 2e-5


@pytest.mark.parametrize("solver", [Euler(), Heun(), RK4(), GaussLegendre4(), AB2()], ids=repr)
@pytest.mark.parametrize("how", [{}, {"backward": True}, {"uneven": True}], ids=str)
def test_orders(solver, how):
    assert testing.observed_order(solver, **how) == pytest.approx(solver.info.order, abs=0.05)


def test_an_order_on_a_problem_of_ones_own():
    problem = testing.Problem(
        ODETerm(lambda t, y: y * math.cos(t)), 0.0, 1.0, lambda t: torch.full((1, 1), math.exp(math.sin(t))).double()
    )
    assert testing.observed_order(Heun(), problem=problem) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("solver", "interval"),
    [(Euler(), 2.0), (Heun(), 2.0), (RK4(), 2.785294), (AB2(), 1.0), (Trapezoid(), math.inf), (RadauIIA5(), math.inf)],
    ids=repr,
)
def test_stability_intervals(solver, interval):
    farthest = math.inf if math.isinf(interval) else 1.2 * interval
    assert testing.stability_interval(solver, farthest) == pytest.approx(interval, rel=SAMPLE)


def test_an_explicit_method_is_not_stable_everywhere():
    assert testing.stability_interval(Euler()) < 10


@pytest.mark.parametrize(("solver", "order"), [(ImplicitEuler(), 1), (GaussLegendre4(), 2), (RadauIIA5(), 3)], ids=repr)
def test_stiff_orders(solver, order):
    assert testing.stiff_order(solver) == pytest.approx(order, abs=0.1)


def test_dense_output_of_hermite():
    assert testing.dense_order(RK4()) == pytest.approx(4, abs=0.05)
    assert testing.dense_order(Heun()) == pytest.approx(2, abs=0.05)
    assert testing.dense_gap(RK4()) < EXACT


def test_a_field_that_is_an_acceleration_has_no_dense_output():
    problem = problem_for(Stormer.info)
    with pytest.raises(InputError, match="knows no velocities"):
        testing.dense_gap(Stormer())
    assert float(problem.exact(1.0)[0]) == pytest.approx(-float(problem.y0[0]))


def test_error_estimates():
    """Step doubling estimates the error itself; Euler's in Heun's method is one power of the step behind."""
    assert testing.error_order(StepDoubling(RK4())) == pytest.approx(5, abs=0.1)
    assert testing.error_ratio(StepDoubling(Euler())) == pytest.approx(1, rel=0.1)
    assert testing.error_order(Heun()) == pytest.approx(2, abs=0.1)
    assert math.isnan(testing.error_order(RK4()))


def test_evaluations():
    assert testing.counted_evaluations(RK4(), 5) == 20
    assert testing.counted_over_layers(SymplecticEuler(), 5) == 10
    with pytest.raises(InputError, match=r"Step\.inner is None"):
        testing.counted_iterations(RK4())


def test_beginning_anew():
    assert testing.restart_gap(RK4()) == 0
    assert testing.restart_gap(AB2()) > 1e-4


def test_structure():
    assert testing.undo_gap(Leapfrog(), 50) < EXACT
    assert testing.symplectic_defect(SymplecticEuler()) < EXACT
    assert testing.symplectic_defect(GaussLegendre4()) < EXACT
    assert testing.symplectic_defect(RK4()) > 1e-6


def test_gradients():
    assert testing.gradient_gap(Leapfrog(), Reversible()) < 1e-10
    assert testing.difference_gap(RK4()) < SLOPE


def test_company():
    assert testing.batch_gap(GaussLegendre4()) < EXACT
    assert testing.measured_batch_gap(Heun()) < EXACT
    assert testing.clock_gap(AB2()) < EXACT
    assert testing.memory_gap(AB2()) < EXACT
    assert testing.sharing_gap(AB2()) == 0
    assert testing.copy_gap(AB2(), copy.deepcopy) == 0
    assert testing.nan_failure(AB2()) == "NonFinite"
    assert testing.term_gap(AB2()) < EXACT
    assert testing.changed_kinds(AB2()) == []


PROBLEMS = {
    "first order": problem_for(Info(order=2, nfe_step=1)),
    "high order": problem_for(Info(order=8, nfe_step=1)),
    "partitioned": problem_for(Info(order=2, nfe_step=1, terms=(Partitioned,))),
    "split": problem_for(Info(order=2, nfe_step=1, terms=(Split,))),
    "semilinear": problem_for(Info(order=2, nfe_step=1, terms=(Semilinear,))),
    "bent": bent(Info(order=2, nfe_step=1)),
    "stiff": prothero_robinson(Info(order=2, nfe_step=1)),
    "stiff, split": prothero_robinson(Info(order=2, nfe_step=1, terms=(Split,))),
    "stiff, semilinear": prothero_robinson(Info(order=2, nfe_step=1, terms=(Semilinear,))),
    "stiffening": stiffening(Info(order=2, nfe_step=1)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_solutions_of_the_problems_solve_them(name):
    problem, h = PROBLEMS[name], 1e-5
    for t in (0.1, 0.4):
        term = problem.term.over(0.0, 1.0)
        states = problem.exact(t + h), problem.exact(t - h), term.vf(t, problem.exact(t))
        for ahead, behind, f in zip(*map(leaves, states), strict=True):
            torch.testing.assert_close((ahead - behind) / (2 * h), f, rtol=SLOPE, atol=SLOPE)


@pytest.mark.parametrize("name", PROBLEMS)
def test_samples_of_a_problem(name):
    problem = PROBLEMS[name]
    if name in ("bent", "stiff, semilinear"):  # of one sample; of a flow without rows
        return
    some = problem.rows([1])
    whole, alone = problem.term.vf(0.3, problem.y0), some.term.vf(0.3, some.y0)
    for a, b in zip(leaves(whole), leaves(alone), strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=0, atol=1e-9)


def test_a_kind_of_term_that_the_kit_does_not_know():
    with pytest.raises(InputError, match="got a solver for Layered; it has problems for Term, ODETerm, Partitioned"):
        problem_for(Info(order=1, nfe_step=1, terms=(Layered,)))


@pytest.mark.parametrize("kind", [Term, Partitioned, Split, Semilinear])
def test_networks_of_every_kind(kind):
    term, y0 = network(Info(order=1, nfe_step=1, terms=(kind,)), 3)
    assert term.over(1.0, 2.0).vf(1.0, y0) is not None
    assert not term.continuous


def test_energy_of_the_pendulum():
    q, p = (torch.tensor([[x]], dtype=torch.float64) for x in (0.7, 0.4))
    velocity, force = pendulum().vf(0.0, (q, p))
    assert float(p * velocity) == pytest.approx(0.16)
    assert float(force) == pytest.approx(-math.sin(0.7))


def test_each_claim_has_a_section_and_each_section_a_claim():
    sections = {line.removeprefix("### ") for line in CLAIMS.splitlines() if line.startswith("### ")}
    assert sections == {m.name for m in (*conformance.MEASUREMENTS, *rulebook.RULES)}


def test_each_instrument_is_in_the_guide():
    lent = [name for name in testing.__all__ if name.islower() and name not in ("claims", "report", "check_solver")]
    assert [name for name in lent if f"`{name}" not in CLAIMS] == []


def test_the_kit_needs_no_pytest():
    code = (
        "import sys; from deqlight.testing import check_solver; print('pytest' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width, tmp_path):
    (tmp_path / f"proud{width}.py").write_text(PROUD.format(width=width))
    console = Console(file=StringIO(), width=width)
    line = read(["check", f"Proud{width}", "--plugin", str(tmp_path / f"proud{width}.py")])
    assert check(line, console) == 1
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert "│ order                │ 2 ± 0.15" in shown and "FAILS" in shown
    assert "order: The error shrinks more slowly than claimed" in shown
    assert f"Proud{width}: 14 of 18 claims hold." in shown


PROUD = """
from deqlight.plugin import impl
from deqlight.solvers import Solver, SolverInfo, Step


class Proud{width}(Solver):
    info = SolverInfo(order=2, nfe_step=1)

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, (1.0,), (term.vf(t0, y0),), term.control(t0, t1)))


@impl
def deqlight_solvers():
    return [Proud{width}]
"""
