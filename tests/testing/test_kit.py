"""The kit rejects planted copies of faults seen elsewhere, and says which claim fails."""

import dataclasses

import pytest

from deqlight.errors import ConformanceError
from deqlight.solvers import RK4, Dopri5, Euler, ExplicitRungeKutta, Leapfrog, SolverInfo, Step, Verlet
from deqlight.testing import check_solver, report


class ShiftedNodes(ExplicitRungeKutta):
    """RK4 with its stage nodes one place off: right where the field does not depend on time."""

    tableau = RK4.tableau
    info = RK4.info

    def step(self, term, t0, t1, y0, carry):
        control, stages = term.control(t0, t1), [term.vf(t0, y0)]
        for node, row in zip((0.0, 0.5, 0.5), self.tableau.a[1:], strict=True):
            stages.append(term.vf(t0 + node * (t1 - t0), term.advance(y0, row, stages, control)))
        return Step(term.advance(y0, self.tableau.b, stages, control))


class TooProud(Euler):
    info = dataclasses.replace(Euler.info, order=2)


class Miscounting(Euler):
    info = dataclasses.replace(Euler.info, nfe_step=2)


class WrongEstimate(Dopri5):
    info = dataclasses.replace(Dopri5.info, error_order=3)


class CarriesOverLayers(Dopri5):
    """Takes the last stage of one layer for the first of the next, whose field is another."""

    def init(self, term, t0, t1, y0):
        return term.vf(t0, y0)


class NotQuiteUndone(Leapfrog):
    def unstep(self, term, t0, t1, y1, carry):
        back = super().unstep(term, t0, t1, y1, carry)
        return back._replace(y=back.y + 1e-9)


class NotSymplectic(Verlet):
    def step(self, term, t0, t1, y0, carry):
        q, p = super().step(term, t0, t1, y0, carry).y
        return Step((q, p * (1 + 1e-6)))


class SingleOnly(Euler):
    def step(self, term, t0, t1, y0, carry):
        return Step(super().step(term, t0, t1, y0, carry).y.float())


class Silent(Leapfrog):
    info = dataclasses.replace(Leapfrog.info, reversible=False)


class Broken(Euler):
    def step(self, term, t0, t1, y0, carry):
        raise NotImplementedError("later")


PLANTED = [
    (ShiftedNodes, "order"),
    (TooProud, "order"),
    (Miscounting, "evaluations"),
    (WrongEstimate, "error order"),
    (CarriesOverLayers, "layers"),
    (NotQuiteUndone, "undone"),
    (NotSymplectic, "symplectic"),
    (SingleOnly, "dtype, shape"),
    (Silent, "undone, unclaimed"),
    (Broken, "order"),
]


@pytest.mark.parametrize(("cls", "claim"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_found_and_named(cls, claim):
    assert claim in {row.claim for row in report(cls).rows if not row.ok}


def test_a_shifted_node_shows_as_order_one():
    (row,) = [row for row in report(ShiftedNodes).rows if row.claim == "order"]
    assert float(row.measured) == pytest.approx(1.0, abs=0.15)


def test_a_failed_check_raises_with_the_whole_table():
    with pytest.raises(ConformanceError, match=r"(?s)TooProud does not do.*FAILS +TooProud +order +2 ± 0.15 +1.0"):
        check_solver(TooProud)


def test_a_fault_hides_nothing_else():
    rows = {row.claim: row.ok for row in report(Miscounting).rows}
    assert rows["order"] and rows["dtype, shape"] and not rows["evaluations"]


def test_every_claim_of_info_is_measured():
    measured = {"order", "nfe_step", "nfe_start", "error_order", "derivative", "fsal", "continuous_field", "reversible"}
    measured |= {"symplectic", "uniform_steps", "terms", "reference"}
    assert {field.name for field in dataclasses.fields(SolverInfo)} == measured


def test_the_pytest_plugin_makes_one_test_for_each_claim(pytester):
    pytester.makepyfile(
        """
        import pytest
        from deqlight.solvers import Heun

        @pytest.mark.conformance(solvers=[Heun])
        def test_claims(claim):
            claim.verify()
        """
    )
    result = pytester.runpytest_inprocess("-v")
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["*Heun-error order*"])


pytest_plugins = ["pytester"]
