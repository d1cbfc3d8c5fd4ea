"""A guest's implicit method, which iterates by itself, passes the kit; each fault planted in it is found."""

import dataclasses
import math

import pytest
import torch

from deqlight.solvers import Inner, Solver, SolverInfo, Step
from deqlight.states import leaves
from deqlight.testing import counted_iterations, report, unconverged_error

ROOT = math.sqrt(3) / 6
DONE = 8  # corrections that rounding makes, in units of eps, on numbers of size one


class FixedPointGauss(Solver):
    """The Gauss–Legendre method of order 4, its stages found by fixed-point iteration."""

    nodes = (0.5 - ROOT, 0.5 + ROOT)
    weights = ((0.25, 0.25 - ROOT), (0.25 + ROOT, 0.25))
    most = 60
    info = SolverInfo(order=4, nfe_step=None, dense_order=None, symplectic=True, reference="Butcher 1964")

    def step(self, term, t0, t1, y0, carry):
        control, calls = term.control(t0, t1), 0
        times = [t0 + c * (t1 - t0) for c in self.nodes]
        stages = [term.vf(t, y0) for t in times]
        for _ in range(self.most):
            old, calls = stages, calls + 2
            points = [term.advance(y0, row, old, control) for row in self.weights]
            stages = [term.vf(t, y) for t, y in zip(times, points, strict=True)]
            moved = self.correction(
                [term.increment([1.0, -1.0], pair, control) for pair in zip(stages, old, strict=True)]
            )
            if not bool((moved > DONE).any()):  # NaN, too, ends it
                break
        y1 = term.advance(y0, (0.5, 0.5), stages, control)
        return Step(y1, inner=self.told(calls + 2, moved))

    def told(self, calls, moved):
        return Inner(torch.full(moved.shape, calls), moved.cpu() <= DONE)

    @staticmethod
    def correction(states):
        """The largest change of each sample in units of eps, `(batch,)`."""
        parts = [leaf.detach() for state in states for leaf in leaves(state)]
        parts = [p.abs().double() / torch.finfo(p.dtype).eps for p in parts]
        rows = [p.reshape(p.shape[:1].numel(), p.shape[1:].numel()) for p in parts]
        return torch.stack([torch.cat([r, r.new_zeros(len(r), 1)], 1).amax(1) for r in rows]).amax(0)


class WrongSign(FixedPointGauss):
    """One node with the wrong sign."""

    nodes = (0.5 - ROOT, -0.5 - ROOT)


class WrongPlace(FixedPointGauss):
    """The nodes in each other's place."""

    nodes = FixedPointGauss.nodes[::-1]


class Undercounting(FixedPointGauss):
    def told(self, calls, moved):
        return super().told(calls - 2, moved)


class Unsaid(FixedPointGauss):
    def step(self, term, t0, t1, y0, carry):
        return super().step(term, t0, t1, y0, carry)._replace(inner=None)


class OneForAll(FixedPointGauss):
    def told(self, calls, moved):
        return Inner(torch.tensor(calls), torch.tensor(True))


class LeftEarly(FixedPointGauss):
    """Stops after a few iterations and calls it converged."""

    most = 6

    def told(self, calls, moved):
        return super().told(calls, 0 * moved.nan_to_num())


def failing(cls):
    return {row.claim: row for row in report(cls).rows if not row.ok}


def test_the_right_one_passes():
    assert failing(FixedPointGauss) == {}


@pytest.mark.parametrize("cls", [WrongSign, WrongPlace])
def test_a_wrong_node_is_found_and_named(cls):
    row = failing(cls)["order"]
    assert float(row.measured) < 2.2
    assert "a stage is evaluated at the wrong time" in row.why


@pytest.mark.parametrize(
    ("cls", "claim"),
    [(Undercounting, "iterations"), (Unsaid, "iterations"), (OneForAll, "iterations"), (LeftEarly, "converged")],
)
def test_what_is_told_of_iterations(cls, claim):
    assert claim in failing(cls)


def test_an_iteration_that_fails_and_says_so_is_no_fault():
    assert unconverged_error(FixedPointGauss()) < 0.1


def test_samples_in_all_calls_are_counted():
    found = counted_iterations(FixedPointGauss(), 2)
    assert found.told == found.counted > 0 and found.converged


def test_a_solver_must_say_when_it_iterates():
    """Without `nfe_step=None` the counts do not fit."""

    class Fixed(FixedPointGauss):
        info = dataclasses.replace(FixedPointGauss.info, nfe_step=40)

    assert "evaluations" in failing(Fixed)
