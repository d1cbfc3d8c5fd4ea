"""Weak orders and the calculus, as the kit measures them; and the quadrature they rest on."""

import math
from dataclasses import replace

import pytest
import torch
from faulty_noise import WeaklyBold

from deqlight import SDETerm, testing
from deqlight.solvers import SRK, Euler, EulerHeun, Heun, LogODE, Midpoint, Milstein, Platen, ReversibleHeun
from deqlight.testing.moments import moments
from deqlight.testing.quadrature import stepped_over_noise

NEAR = 0.1  # of a slope over steps of 1/16 to 1/64: what next terms leave
EXACT = 1e-13  # relative, of one number computed in two ways

KNOWN = [
    (Euler(), 1.0),
    (Milstein(), 1.0),
    (SRK(), 1.5),
    (Platen(), 2.0),
    (Heun(), 1.0),
    (Midpoint(), 1.0),
    (EulerHeun(), 1.0),
    (LogODE(), 1.0),
    (ReversibleHeun(), 1.0),
]


@pytest.mark.parametrize(("solver", "order"), KNOWN, ids=str)
def test_weak_orders_of_theory(solver, order):
    assert testing.weak_order(solver) == pytest.approx(order, abs=NEAR)


def test_moments_are_those_of_euler_and_maruyama(double):
    """E y and E y² of (1 − ah + bW)ⁿ, in closed form."""
    a, b, n = 0.8, 0.6, 7
    term = SDETerm(lambda t, y: -a * y, lambda t, y: b * y, noise="diagonal", calculus="ito")
    mean, second = moments(Euler(), term, n)
    assert mean == pytest.approx((1 - a / n) ** n, rel=EXACT)
    assert second == pytest.approx(((1 - a / n) ** 2 + b * b / n) ** n, rel=EXACT)


def test_the_quadrature_knows_the_law_of_w_and_its_integral(double):
    """E W⁴ = 3h²; the time integral adds E U² = h³/3, seen through a method for additive noise."""
    h = 0.3
    term = SDETerm(lambda t, y: 0 * y, lambda t, y: torch.ones_like(y), noise="additive", calculus="ito")
    (ends,), weights = stepped_over_noise(Euler(), term, 0.0, h, 0.0)
    assert float(weights.sum()) == pytest.approx(1, rel=EXACT)
    assert float((weights * ends**4).sum()) == pytest.approx(3 * h**2, rel=EXACT)
    drifting = SDETerm(lambda t, y: y, lambda t, y: torch.ones_like(y), noise="additive", calculus="ito")
    (ends,), weights = stepped_over_noise(SRK(), drifting, 0.0, h, 0.0)  # W + U, for a drift that is linear
    assert float((weights * ends**2).sum()) == pytest.approx(h + h**2 + h**3 / 3, rel=EXACT)


class AdditiveAlone(Euler):
    info = replace(Euler.info, strong_order={"additive": 1.0})


class ScalarAlone(Euler):
    info = replace(Euler.info, strong_order={"scalar": 0.5})


@pytest.mark.parametrize("solver", [AdditiveAlone(), ScalarAlone()], ids=repr)
def test_solvers_for_one_kind_of_noise(solver):
    assert testing.weak_order(solver) == pytest.approx(1.0, abs=NEAR)


def test_the_calculus_claimed_and_the_other():
    assert testing.calculus_gap(Euler()) < 0.05 and testing.calculus_gap(Heun()) < 0.05
    wrong = WeaklyBold()
    wrong.info = replace(wrong.info, calculus="stratonovich")
    assert testing.calculus_gap(wrong) > 10
    assert not math.isnan(testing.calculus_gap(LogODE()))
