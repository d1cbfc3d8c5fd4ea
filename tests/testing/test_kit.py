"""The kit rejects planted copies of faults seen elsewhere, and says which claim fails and why."""

import dataclasses
from functools import cache

import pytest
import torch
from faulty_noise import FAULTS
from faulty_samplers import FAULTS as SAMPLERS

from deqlight.errors import ConformanceError
from deqlight.solvers import (
    AB2,
    RK4,
    Dopri5,
    Euler,
    ExplicitRungeKutta,
    Heun,
    ImplicitEuler,
    Leapfrog,
    Solver,
    SolverInfo,
    Step,
    Verlet,
)
from deqlight.states import axpy, each, leaves
from deqlight.terms import Partitioned
from deqlight.testing import check_solver, claims, report
from deqlight.testing.conformance import MEASUREMENTS


class ShiftedNodes(ExplicitRungeKutta):
    """RK4 with its stage nodes one place off: right where the field does not depend on time."""

    tableau = RK4.tableau
    info = RK4.info

    def step(self, term, t0, t1, y0, carry):
        control, stages = term.control(t0, t1), [term.vf(t0, y0)]
        for node, row in zip((0.0, 0.5, 0.5), self.tableau.a[1:], strict=True):
            stages.append(term.vf(t0 + node * (t1 - t0), term.advance(y0, row, stages, control)))
        return Step(term.advance(y0, self.tableau.b, stages, control))


class EighthDigit(ExplicitRungeKutta):
    """RK4 with a weight that was mistyped in its eighth digit."""

    info = RK4.info
    tableau = dataclasses.replace(RK4.tableau, b=(1 / 6 + 2e-8, 1 / 3 - 2e-8, 1 / 3, 1 / 6))


class TooProud(Euler):
    info = dataclasses.replace(Euler.info, order=2)


class TooModest(Heun):
    info = dataclasses.replace(Heun.info, order=1)


class Backward(Euler):
    """Forgets that steps may be negative."""

    def step(self, term, t0, t1, y0, carry):
        return Step(axpy(abs(t1 - t0), term.vf(t0, y0), y0))


class EqualSteps(AB2):
    """The weights of equal steps, on any."""

    def step(self, term, t0, t1, y0, carry):
        f, control = term.vf(t0, y0), term.control(t0, t1)
        return Step(term.advance(y0, *(([1.0], [f]) if carry is None else ([1.5, -0.5], [f, carry])), control), f)


class Miscounting(Euler):
    info = dataclasses.replace(Euler.info, nfe_step=2)


class WrongEstimate(Dopri5):
    info = dataclasses.replace(Dopri5.info, error_order=3)


class Overconfident(Heun):
    def step(self, term, t0, t1, y0, carry):
        step = super().step(term, t0, t1, y0, carry)
        return step._replace(error=each(lambda e: 1e-5 * e, step.error))


class CarriesOverLayers(Dopri5):
    """Takes the last stage of one layer for the first of the next, whose field is another."""

    def init(self, term, t0, t1, y0):
        return term.vf(t0, y0)


class StraightLines(RK4):
    """Between the ends of a step, a straight line."""

    def dense(self, term, t0, t1, y0, step):
        return y0, each(torch.sub, step.y, y0)


class MissesTheEnd(RK4):
    def dense(self, term, t0, t1, y0, step):
        start, *rest = super().dense(term, t0, t1, y0, step)
        return start, *rest[:-1], each(lambda c: c + 1e-6, rest[-1])


class Overstated(Heun):
    info = dataclasses.replace(Heun.info, stability=2.3)


class Understated(Heun):
    info = dataclasses.replace(Heun.info, stability=1.5)


class NotForAll(Heun):
    info = dataclasses.replace(Heun.info, stability=float("inf"))


class NotSoStiff(ImplicitEuler):
    info = dataclasses.replace(ImplicitEuler.info, stiff_order=2)


class Forgetful(AB2):
    info = dataclasses.replace(AB2.info, steps=1)


class NotQuiteUndone(Leapfrog):
    def unstep(self, term, t0, t1, y1, carry):
        back = super().unstep(term, t0, t1, y1, carry)
        return back._replace(y=back.y + 1e-9)


class NotSymplectic(Verlet):
    def step(self, term, t0, t1, y0, carry):
        q, p = super().step(term, t0, t1, y0, carry).y
        return Step((q, p * (1 + 1e-6)))


class Detached(Euler):
    def step(self, term, t0, t1, y0, carry):
        return Step(super().step(term, t0, t1, each(torch.detach, y0), carry).y)


class MixesSamples(Euler):
    def step(self, term, t0, t1, y0, carry):
        y = super().step(term, t0, t1, y0, carry).y
        return Step(each(lambda leaf: leaf + 1e-9 * leaf.mean(), y))


class OneNormForAll(Heun):
    """Its estimate is that of the worst sample of the batch."""

    def step(self, term, t0, t1, y0, carry):
        step = super().step(term, t0, t1, y0, carry)
        return step._replace(error=each(lambda e: e.abs().amax().expand_as(e), step.error))


class FloatsAlone(Euler):
    def step(self, term, t0, t1, y0, carry):
        return Step(axpy((t1 - t0) * (1 + 1e-9 * isinstance(t0, float)), term.vf(t0, y0), y0))


class SidewaysMemory(AB2):
    """Keeps its memory with the batch on the wrong axis."""

    def step(self, term, t0, t1, y0, carry):
        past = None if carry is None else carry._replace(f=each(lambda f: f.roll(1, 0), carry.f))
        step = super().step(term, t0, t1, y0, past)
        return step._replace(carry=step.carry._replace(f=each(lambda f: f.roll(-1, 0), step.carry.f)))


class KeepsState(AB2):
    """Keeps on itself what belongs into `carry`."""

    def init(self, term, t0, t1, y0):
        self.past = None

    def step(self, term, t0, t1, y0, carry):
        step = super().step(term, t0, t1, y0, self.past)
        self.past = step.carry
        return step._replace(carry=None)


class NotCopied(Euler):
    """Its copies lack what it was given."""

    def __init__(self):
        self.factor = 1.0

    def __getstate__(self):
        return {"factor": 1.0 + 1e-9}

    def step(self, term, t0, t1, y0, carry):
        return Step(axpy(self.factor * (t1 - t0), term.vf(t0, y0), y0))


class NeverEnds(Euler):
    """Loops until a residual is small, which NaN never is."""

    def step(self, term, t0, t1, y0, carry):
        y1 = each(torch.clone, y0)
        while not all(bool((leaf.abs() >= 0).all()) for leaf in leaves(term.vf(t0, y1))):
            pass
        return super().step(term, t0, t1, y0, carry)


class SwallowsNaN(Euler):
    def step(self, term, t0, t1, y0, carry):
        return Step(each(torch.nan_to_num, super().step(term, t0, t1, y0, carry).y))


class SingleOnly(Euler):
    def step(self, term, t0, t1, y0, carry):
        return Step(each(torch.Tensor.float, super().step(term, t0, t1, y0, carry).y))


class OnTheCPU(Euler):
    def step(self, term, t0, t1, y0, carry):
        y = super().step(term, t0, t1, y0, carry).y
        return Step(each(lambda leaf: leaf + torch.zeros(leaf.shape, dtype=leaf.dtype, device="cpu"), y))


class FirstPartOnly(Euler):
    """Moves the first half of a pair by the field, the second as if it stood still."""

    def step(self, term, t0, t1, y0, carry):
        y = super().step(term, t0, t1, y0, carry).y
        return Step((y[0], y0[1]) if isinstance(term, Partitioned) else y)


class Silent(Leapfrog):
    info = dataclasses.replace(Leapfrog.info, reversible=False)


class NoWayBack(Euler):
    info = dataclasses.replace(Euler.info, reversible=True)


class Broken(Euler):
    def step(self, term, t0, t1, y0, carry):
        raise NotImplementedError("later")


class OrderNothing(Euler):
    info = dataclasses.replace(Euler.info, order=0, stability=-2.0)


class NoCalculus(Euler):
    info = dataclasses.replace(Euler.info, calculus=None, weak_order=0.7, area=3)


class Nameless(Solver):
    def step(self, term, t0, t1, y0, carry):
        return Step(y0)


class NeedsArguments(Euler):
    def __init__(self, k):
        self.k = k


PLANTED = [
    *FAULTS,
    *SAMPLERS,
    (ShiftedNodes, "order"),
    (EighthDigit, "order"),
    (TooProud, "order"),
    (TooModest, "order"),
    (Backward, "order, reversed time"),
    (EqualSteps, "order, uneven steps"),
    (Miscounting, "evaluations"),
    (WrongEstimate, "error order"),
    (Overconfident, "error size"),
    (CarriesOverLayers, "order over layers"),
    (CarriesOverLayers, "evaluations, layers"),
    (StraightLines, "dense order"),
    (MissesTheEnd, "dense ends"),
    (Overstated, "stability"),
    (Understated, "stability"),
    (NotForAll, "stability"),
    (NotSoStiff, "order, stiff"),
    (Forgetful, "one-step"),
    (NotQuiteUndone, "undone"),
    (NotSymplectic, "symplectic"),
    (Detached, "gradient"),
    (MixesSamples, "samples"),
    (OneNormForAll, "samples, PID"),
    (FloatsAlone, "clocks"),
    (SidewaysMemory, "memory"),
    (KeepsState, "shared"),
    (NotCopied, "copies"),
    (NeverEnds, "NaN"),
    (SwallowsNaN, "NaN"),
    (SingleOnly, "dtype, shape, device"),
    (OnTheCPU, "dtype, shape, device"),
    (FirstPartOnly, "terms"),
    (Silent, "undone, unclaimed"),
    (NoWayBack, "undone"),
    (Broken, "order"),
    (OrderNothing, "info"),
    (NoCalculus, "info"),
    (Nameless, "info"),
    (NeedsArguments, "examples"),
]


@cache
def failing(cls):
    return {row.claim: row for row in report(cls).rows if not row.ok}


def broken(cls, claim):
    """The row of one claim that fails; nothing else is measured."""
    if claim == "examples":  # of a class without instances
        return failing(cls)[claim]
    return next(row for told in claims(cls) if told.name == claim and not (row := told.row()).ok)


@pytest.mark.parametrize(("cls", "claim"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_found_named_and_explained(cls, claim):
    row = broken(cls, claim)
    assert row.why.endswith(".") and len(row.why) > 40


def test_each_kind_of_claim_has_a_planted_fault():
    iterative = {"iterations", "converged"}  # theirs are in test_iterative.py
    follows = {"reversible gradient"}  # that of a wrong unstep
    assert {m.name for m in MEASUREMENTS} == {claim for _, claim in PLANTED} - {"examples"} | iterative | follows


@pytest.mark.parametrize(
    ("cls", "claim", "part"),
    [
        (ShiftedNodes, "order", "a stage is evaluated at the wrong time"),
        (EighthDigit, "order", "a coefficient is wrong"),
        (TooModest, "order", "better than it claims"),
        (Broken, "order", "NotImplementedError in test_kit.py, line"),
        (OrderNothing, "info", "order is 0; it must be a whole number at least 1; stability is -2.0"),
        (NoCalculus, "info", "one goes with the other"),
        (NoCalculus, "info", "the weak order is 0.7; it must be a positive multiple of 1/2; area is 3"),
        (NeedsArguments, "examples", "a classmethod `examples`"),
        (NeverEnds, "NaN", "bound every loop"),
        (KeepsState, "shared", "nothing may be kept on self"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_reason_fits(cls, claim, part):
    assert part in broken(cls, claim).why


def test_a_shifted_node_shows_as_order_one():
    assert float(broken(ShiftedNodes, "order").measured) == pytest.approx(1.0, abs=0.15)


def test_a_failed_check_raises_with_the_whole_table():
    with pytest.raises(
        ConformanceError, match=r"(?s)TooProud does not do.*FAILS +TooProud +order +2 ± 0.15 +1.0.*order: "
    ):
        check_solver(TooProud)


def test_a_fault_hides_nothing_else():
    assert set(failing(Miscounting)) == {"evaluations", "evaluations, layers"}


def test_what_cannot_be_meant_is_not_measured():
    assert [row.claim for row in report(OrderNothing).rows] == ["info"]


def test_every_claim_of_info_is_measured():
    measured = {
        "order": "order",
        "nfe_step": "evaluations",
        "nfe_start": "evaluations",
        "error_order": "error order",
        "stiff_order": "order, stiff",
        "dense_order": "dense order",
        "stability": "stability",
        "steps": "one-step",
        "derivative": "order",
        "fsal": "info",
        "continuous_field": "order over layers",
        "reversible": "undone",
        "symplectic": "symplectic",
        "uniform_steps": "order, uneven steps",
        "smooth_steps": "order, uneven steps",
        "terms": "terms",
        "calculus": "calculus",
        "strong_order": "strong order, general",
        "weak_order": "weak order",
        "area": "strong order, diagonal",
        "reference": "info",
    }
    assert {field.name for field in dataclasses.fields(SolverInfo)} == set(measured)
    assert set(measured.values()) <= {m.name for m in MEASUREMENTS}


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
    assert result.parseoutcomes() == {"passed": len(report(Heun).rows)}
    result.stdout.fnmatch_lines(["*Heun-error order*"])


pytest_plugins = ["pytester"]
