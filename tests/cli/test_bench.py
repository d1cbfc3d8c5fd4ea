"""`deqlight bench`: the numbers it writes, what it refuses in a row, and what it refuses at once."""

import json
import subprocess
import sys

import pytest
import torch

from deqlight.cli.bench_plan import Choice, spelled
from deqlight.errors import ConfigError

BRIEF = ("--rounds=1", "--data.batch_size=16", "--device=cpu", "--output=found.json")
FLOAT32 = 1e-4  # relative, of a gradient taken again in another order; rounding gives 1e-7 to 1e-5


@pytest.fixture
def bench(deqlight, tmp_path):
    """Run the command; what it printed, and the numbers it wrote."""

    def run(*words):
        done = deqlight("bench", *words, *BRIEF)
        assert done.code == 0, done.err
        return done.out, json.loads((tmp_path / "found.json").read_text())

    return run


def rows(found):
    return {(row["solver"], row["gradient"]): row for row in found["rows"]}


def test_help_needs_no_torch():
    code = "import sys; from deqlight.cli.main import main; sys.exit(main(['bench', '-h']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: deqlight bench")
    assert "--solvers" in done.stdout


def test_a_network_without_a_solver_is_told_so(deqlight):
    done = deqlight("bench", "-c", "edm_points", *BRIEF)
    assert done.code == 2 and "the network of this experiment has none" in done.err


def test_a_reversible_network_and_others(bench):
    shown, found = bench("-c", "midpoint_digits", "--solvers=Leapfrog,Heun", "--gradients=Direct,Reversible")
    measured = rows(found)
    direct, undone = measured["Leapfrog", "Direct"], measured["Leapfrog", "Reversible"]
    assert found["rows"][0] == direct and direct["ratio both"] == direct["ratio forward"] == 1.0
    assert direct["gradient against Direct"] == 0.0
    assert 0.0 < undone["gradient against Direct"] < FLOAT32
    assert (direct["nfe"], direct["nfe backward"]) == (6, 0)
    assert (undone["nfe"], undone["nfe backward"]) == (6, 6)
    assert undone["bytes kept"] < direct["bytes kept"] <= direct["bytes peak"]
    assert measured["Heun", "Direct"]["nfe"] == 12
    assert all(0.0 < row["seconds forward"] < row["seconds both"] for row in found["rows"])
    assert [one["choice"] for one in found["refused"]] == ["Heun, Reversible"]
    assert "Heun, Reversible: Reversible got the solver Heun, which has no unstep\n" in shown
    assert found["batch"] == 16 and "Δ exact" not in shown and found["doubt of exact"] is None  # layers have no limit
    assert found["machine"]["torch"] == torch.__version__


def test_measured_steps_and_the_exact_gradient(bench):
    given = ("--solvers=Dopri5", "--gradients=Direct", "--reference=1e-3")
    pace = "--controllers=PID:rtol=1e-1:atol=1e-1,Constant:steps=1,Constant:steps=8"
    shown, found = bench("-c", "neural_ode_digits", *given, pace)
    measured, one, eight = found["rows"]
    assert "Δ exact" in shown and 0.0 < found["doubt of exact"] < 1.0
    assert eight["gradient against exact"] < one["gradient against exact"]
    assert (one["accepted"], eight["accepted"], one["rejected"]) == (2, 16, 0)  # two stages
    assert measured["accepted"] >= 2 and measured["nfe"] > 12


def test_the_experiment_s_own_comes_first_and_others_are_offered(bench):
    _, found = bench("-c", "resnet_digits", "--gradients=Direct")
    assert [row["solver"] for row in found["rows"]] == ["Euler", "Heun", "Dopri5"]
    _, found = bench("-c", "revnet_digits", "--solvers=SymplecticEuler")
    offered = [row["gradient"] for row in found["rows"]]
    assert offered == ["Reversible", "Direct", "Checkpoint"]


def test_trained_weights_with_another_solver(bench, trained):
    _, found = bench("--ckpt_path", trained, "--gradients=Direct", "--solvers=LinearTwoStep,LinearTwoStep:k=0.5,Euler")
    assert [row["solver"] for row in found["rows"]] == ["LinearTwoStep", "LinearTwoStep:k=0.5", "Euler"]
    assert found["experiment"] == "resnet_digits"


def test_a_guest_s_solver(bench, tmp_path):
    (tmp_path / "guest_euler.py").write_text(GUEST)
    _, found = bench(
        "-c", "resnet_digits", "--plugin=guest_euler.py", "--gradients=Direct", "--solvers=GuestEuler,Euler"
    )
    assert found["rows"][0]["nfe"] == found["rows"][1]["nfe"] == 6


def test_a_solve_that_fails_is_a_line_and_not_the_end(bench):
    given = ("--solvers=Dopri5", "--gradients=Direct", "--controllers=Constant:steps=2,PID:rtol=1e-5:atol=1e-9")
    shown, found = bench("-c", "neural_ode_digits", *given, "--model.net.max_steps=6", "--reference=1e-2")
    assert len(found["rows"]) == 1
    assert found["refused"][0]["choice"].startswith("Dopri5, PID")
    assert "6 steps did not reach the end" in shown


MISTAKES = {
    "--solvers Heunn": "no solver is called 'Heunn'; did you mean Heun?",
    "--gradients Directt": "no gradient is called 'Directt'; did you mean Direct?",
    "--controllers Constantt:steps=2": "no controller is called 'Constantt'; did you mean Constant?",
    "--controllers Constant:stepz=2": "did you mean steps?",
    "--controllers Constant:steps": "'steps' has no value",
    "--solver Heun": "there is no option 'solver'; did you mean solvers?",
    "--model.net.solver Heunn": "there is no solver 'Heunn'",
    "--rounds 0": "at least one round",
    "--device nonsense": "--device nonsense cannot be used",
    "--output nowhere/found.json": "--output nowhere/found.json cannot be written",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_told_in_a_line_before_anything_is_measured(deqlight, words):
    done = deqlight("bench", "-c", "resnet_digits", *words.split())
    assert done.code == 2 and done.out == ""
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert MISTAKES[words] in line


def test_no_experiment(deqlight):
    assert "model and data missing" in deqlight("bench").err


def test_options_of_a_choice():
    assert spelled("k", "Heun") == ["--k=Heun"]
    assert Choice("A:b=1:c=D", None, "E").words() == (
        *("--model.net.solver=A", "--model.net.solver.b=1", "--model.net.solver.c=D"),
        "--model.net.gradient=E",
    )
    with pytest.raises(ConfigError, match="has no value"):
        spelled("k", "Heun:b")


GUEST = '''
from deqlight.plugin import impl
from deqlight.solvers import Solver, SolverInfo, Step


class GuestEuler(Solver):
    """Euler's method, written by a guest."""

    info = SolverInfo(order=1, nfe_step=1)

    def step(self, term, t0, t1, y0, carry):
        return Step(term.advance(y0, (1.0,), (term.vf(t0, y0),), term.control(t0, t1)))


@impl
def deqlight_solvers():
    return [GuestEuler]
'''
