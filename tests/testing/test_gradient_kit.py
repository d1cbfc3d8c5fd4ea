"""The kit rejects planted faults of gradient rules, and says which measurement fails and why."""

import re
import subprocess
import sys
from pathlib import Path

import faulty_rules as faulty
import pytest

from deqlight.errors import ConformanceError, InputError
from deqlight.gradients import Backsolve, Checkpoint, Direct, Gradient, Implicit, Reversible
from deqlight.plugin.builtin import deqlight_gradients
from deqlight.solvers import Euler, Leapfrog
from deqlight.testing import check_gradient, gradient_claims, gradient_report, rule_gap
from deqlight.testing.rulebook import RULES
from deqlight.testing.setting import setting_for

BUILT_IN = [Direct, Checkpoint, Backsolve, Reversible, Implicit]
RIGHT = [faulty.Again, faulty.Once]

GRADIENTS = {"equal steps", "shared steps", "own steps", "own times", "pairs", "layers", "context"}
EVERYWHERE = GRADIENTS | {"parameters", "dropout", "batch norm"}

PLANTED = {
    faulty.Forgetful: EVERYWHERE | {"changed in place"},
    faulty.Enclosed: EVERYWHERE | {"changed in place", "no gradient"},
    faulty.Nested: (EVERYWHERE - {"parameters"}) | {".grad", "second derivative"},
    faulty.Nudged: EVERYWHERE,
    faulty.LastAlone: EVERYWHERE,
    faulty.BatchWide: EVERYWHERE,
    faulty.Stranger: EVERYWHERE | {"solution"},
    faulty.Unguarded: {"dropout", "batch norm", "backward evaluations"},
    faulty.Silent: {"backward evaluations"},
    faulty.Detached: {"second derivative"},
    faulty.Greedy: {"backward twice"},
    faulty.Careless: {"undeclared"},
    faulty.Hasty: {"changed in place"},
    faulty.Widening: {"float32"},
    faulty.Uncopied: {"copies"},
    faulty.Graphic: {"no gradient"},
}


@pytest.mark.conformance(gradients=[*BUILT_IN, *RIGHT])
def test_claim(claim):
    claim.verify()


def test_all_built_in_rules_are_measured():
    assert set(deqlight_gradients()) == set(BUILT_IN)


@pytest.mark.parametrize("rule", PLANTED, ids=lambda rule: rule.__name__)
def test_a_planted_fault_is_found_and_nothing_else(rule):
    report = gradient_report(rule)
    assert {row.claim for row in report.rows if not row.ok} == PLANTED[rule], report


def test_every_measurement_finds_something():
    found = set().union(*PLANTED.values())
    assert found == {measurement.name for measurement in RULES}


def test_measured_steps_are_asked_of_rules_that_accept_them():
    def asked(cls):
        return {claim.name for claim in gradient_claims(cls)}

    assert {"shared steps", "own steps"} <= asked(Checkpoint)
    assert not {"shared steps", "own steps"} & asked(Reversible)
    assert "layers" in asked(Reversible) and "layers" not in asked(Backsolve) | asked(Implicit)


def test_a_rule_is_measured_with_the_solver_that_is_given():
    assert check_gradient(Checkpoint, Leapfrog()).ok
    assert repr(setting_for(Direct(), Euler()).solver) == "Euler"
    assert rule_gap(Checkpoint(2), Leapfrog()) < 1e-12
    with pytest.raises(InputError, match=r"cannot be measured with Euler .*name a solver that it accepts"):
        setting_for(Reversible(), Euler())


def test_the_tolerance_is_that_of_the_claim():
    """What is off by a millionth passes as the gradient of the equation, not as that of the steps."""
    within = {claim.name: claim.row().claimed for claim in gradient_claims(Backsolve)}
    assert within["equal steps"] == "< 1e-06"
    assert next(claim for claim in gradient_claims(Checkpoint)).row().claimed == "< 1e-12"


def test_the_table_says_why():
    with pytest.raises(ConformanceError) as error:
        check_gradient(faulty.Unguarded)
    told = str(error.value)
    assert "Unguarded does not do what it claims" in told
    assert "draws other masks" in told and "guard counts it once" in told


class Needy(Gradient):
    def __init__(self, budget):
        self.budget = budget

    def integrate(self, problem):
        raise NotImplementedError


class Broken(Needy):
    @classmethod
    def examples(cls):
        return (cls(3),)


def test_what_cannot_be_made_or_raises_is_a_row():
    (row,) = gradient_report(Needy).rows
    assert (row.claim, row.ok) == ("examples", False) and "classmethod `examples`" in row.why
    rows = gradient_report(Broken).rows
    assert not any(row.ok for row in rows if row.claim != "layers")
    assert "Broken raised NotImplementedError in test_gradient_kit.py, line" in rows[0].why


GUEST = """
from deqlight.gradients import Direct, Gradient
from deqlight.plugin import impl


class Borrowed(Gradient):
    def integrate(self, problem):
        path = Direct().integrate(problem)
        path.stats.nfe_backward = {told}
        return path


@impl
def deqlight_gradients():
    return [Borrowed]
"""


def check(folder, *words):
    command = [sys.executable, "-m", "deqlight", "check", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_measures_rules_too(tmp_path):
    (tmp_path / "borrowed.py").write_text(GUEST.format(told=7))
    done = check(tmp_path, "Borrowed", "--plugin", "borrowed.py")
    assert done.returncode == 1, done.stderr
    assert "backward evaluations" in done.stdout and "FAILS" in done.stdout and "Borrowed: 19 of 20" in done.stdout
    (tmp_path / "borrowed.py").write_text(GUEST.format(told=0))
    assert check(tmp_path, "Borrowed", "--plugin", "borrowed.py").returncode == 0


def test_a_misspelt_name_is_looked_for_among_solvers_and_rules(tmp_path):
    done = check(tmp_path, "Checkpiont")
    assert done.returncode == 2
    assert "no solver or gradient is called 'Checkpiont'; did you mean Checkpoint?" in done.stderr
    assert "Dopri5" in done.stderr


def test_each_measurement_is_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "plugin" / "claims.md").read_text()
    section = guide.partition("## Gradient rules")[2].partition("## Two processes")[0]
    assert re.findall(r"^### (.*)$", section, re.M) == [measurement.name for measurement in RULES]
