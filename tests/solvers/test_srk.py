"""Rößler's methods: the conditions on their numbers, the order claimed, and no evaluation more than needed."""

import math

import pytest
import sdes
import torch

from deqlight import ODETerm, SDETerm, solve
from deqlight.brownian import Increments
from deqlight.errors import InputError
from deqlight.solvers import SRK, Milstein
from deqlight.solvers.srk import FIRST, FOURTH, NODES, SECOND_ORDER, THIRD, THIRD_ORDER

EXACT = 1e-13  # relative, of two ways to compute one thing in float64
STRONG = 0.15  # of a slope over steps of 1/8 to 1/64 and 400 paths; seeds move it by 0.1
BOTH = [SRK(), SRK(drift_order=3)]
TABLEAUX = {"second": SECOND_ORDER, "third": THIRD_ORDER}


def dot(*columns):
    return sum(math.prod(row) for row in zip(*columns, strict=True))


@pytest.mark.parametrize("tableau", TABLEAUX.values(), ids=TABLEAUX)
def test_conditions_of_order(tableau):
    """Of Rößler 2010, theorem 5.1, those that hold a wrong number in each place."""
    ones, d = (1.0,) * 4, [sum(row) for row in tableau.d]  # D e
    for beta, whole in ((FIRST, 1), (tableau.own, 0), (THIRD, 0), (FOURTH, 0)):
        assert dot(beta, ones) == pytest.approx(whole, abs=EXACT)
    for beta, first in ((FIRST, 0), (tableau.own, 1), (THIRD, 0), (FOURTH, 0)):
        assert dot(beta, d) == pytest.approx(first, abs=EXACT)
    c = [sum(row) for row in tableau.c]
    assert c == list(NODES)
    assert dot(FIRST, c) == pytest.approx(1, abs=EXACT) and dot(THIRD, c) == pytest.approx(-1, abs=EXACT)
    for beta, square in ((FIRST, 1), (tableau.own, 0), (THIRD, -1), (FOURTH, 2)):
        assert dot(beta, d, d) == pytest.approx(square, abs=EXACT)
    deep = [sum(a * b for a, b in zip(row, d, strict=False)) for row in tableau.d]  # D (D e)
    for beta, deeper in ((FIRST, 0), (tableau.own, 0), (THIRD, 0), (FOURTH, 1)):
        assert dot(beta, deep) == pytest.approx(deeper, abs=EXACT)
    b, alpha = [sum(row) for row in tableau.b], tableau.weights
    assert sum(alpha) == pytest.approx(1, abs=EXACT) and dot(alpha, b) == pytest.approx(1, abs=EXACT)
    assert dot(alpha, b, b) == pytest.approx(1.5, abs=EXACT)
    assert dot(alpha, [sum(row) for row in tableau.a]) == pytest.approx(0.5, abs=EXACT)


@pytest.mark.parametrize("problem", [sdes.additive, sdes.diagonal, sdes.scalar], ids=lambda p: p.__name__)
@pytest.mark.parametrize("solver", BOTH, ids=repr)
def test_strong_order_three_halves(solver, problem, double):
    assert sdes.slope(sdes.errors(solver, problem("ito"))) == pytest.approx(1.5, abs=STRONG)


def test_a_path_is_followed_better_than_by_milsteins_method(double):
    better, plain = (sdes.errors(solver, sdes.diagonal("ito"), steps=(64,)) for solver in (SRK(), Milstein()))
    assert better[0] < 0.25 * plain[0]


@pytest.mark.parametrize("solver", BOTH, ids=repr)
def test_without_noise_it_has_the_order_of_its_drift(solver, double):
    still = SDETerm(
        lambda t, y: -y * (1 + math.cos(t)), lambda t, y: 0 * y, noise="diagonal", calculus="ito", brownian=Increments()
    )
    exact = math.exp(-1 - math.sin(1.0))
    found = [solve(still, torch.ones(1, 1), sdes.even(n), solver=solver).y1 for n in (16, 32, 64)]
    assert sdes.slope([abs(float(y1) - exact) for y1 in found], (16, 32, 64)) == pytest.approx(
        solver.info.order, abs=0.1
    )


@pytest.mark.parametrize("solver", BOTH, ids=repr)
@pytest.mark.parametrize("noise", ["additive", "diagonal", "scalar"])
def test_each_stage_is_evaluated_once(solver, noise):
    calls = {"drift": 0, "diffusion": 0}
    whole = sdes.equation(noise, "ito", Increments(seed=1))

    def counted(name, field):
        def value(t, y):
            calls[name] += 1
            return field(t, y)

        return value

    fields = (counted(name, field) for name, field in (("drift", whole.drift), ("diffusion", whole.diffusion)))
    term = SDETerm(*fields, noise=noise, calculus="ito", brownian=Increments(seed=1))
    nfe = [solve(term, torch.randn(2, 3), sdes.even(4), solver=solver).stats.nfe[0].item() for _ in range(2)]
    stages = (2, 2) if noise == "additive" else (solver.drift_order, 4)
    assert nfe == [4 * sum(stages)] * 2
    looked = 1  # whether the noise is what it says, once for each term
    extra = looked * (noise != "scalar")
    assert calls == {"drift": 8 * stages[0], "diffusion": 8 * stages[1] + extra}


def test_the_drift_and_diffusion_at_the_start_are_asked_for_together():
    """Terms that have both from one evaluation are spared the other."""

    class Together(SDETerm):
        asked = 0

        def vf(self, t, y):
            type(self).asked += 1
            return super().vf(t, y)

    for noise in ("additive", "diagonal"):
        Together.asked = 0
        term = Together(
            lambda t, y: -y, lambda t, y: torch.ones_like(y), noise=noise, calculus="ito", brownian=Increments()
        )
        solve(term, torch.ones(2, 1), sdes.even(4), solver=SRK())
        assert Together.asked == 4


def test_times_of_each_sample(double):
    """Steps of length tensors are those of floats."""
    term = SDETerm(lambda t, y: -y * (1 + t), lambda t, y: (0.5 + t) * y, noise="diagonal", calculus="ito")
    w, u, _ = sdes.quadrature(0.25, nodes=3)
    y0, steps = torch.ones_like(w), term._replace(path=sdes.Given(sdes.Increment(w, u)))
    for solver in (*BOTH, Milstein()):
        wanted = solver.step(steps, 0.5, 0.75, y0, None).y
        own = solver.step(steps, torch.full_like(w, 0.5), torch.full_like(w, 0.75), y0, None).y
        assert torch.allclose(own, wanted, rtol=EXACT)


def test_what_it_is_not_for():
    with pytest.raises(InputError, match="drift_order=4; it must be 2 or 3"):
        SRK(drift_order=4)
    with pytest.raises(InputError, match="SRK got the term ODETerm; it integrates Stochastic"):
        solve(ODETerm(lambda t, y: y), torch.ones(1, 1), [0, 1], solver=SRK())
