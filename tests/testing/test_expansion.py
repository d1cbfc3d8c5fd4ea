"""Moments of one step by the generator: right where they are known, and finding what linear equations do not show."""

import math

import numpy as np
import pytest

from deqlight import SDETerm
from deqlight.solvers import SRK, Euler, Heun, LogODE, Platen, Step
from deqlight.testing import expansion
from deqlight.testing.expansion import local_weak_order
from deqlight.testing.moments import moments

NEAR = 0.07  # SRK's next term is half a power of the step away; others have 0.01
EXACT = 1e-12  # relative, of two ways to one number


@pytest.mark.parametrize(
    ("solver", "noise", "order"),
    [
        (Euler(), "diagonal", 1),
        (Euler(), "general", 1),
        (Heun(), "scalar", 1),
        (LogODE(), "general", 1),
        (SRK(), "diagonal", 1.5),
        (SRK(drift_order=3), "diagonal", 1.5),
        (SRK(), "additive", 2),
        (Platen(), "diagonal", 2),
        (Platen(), "additive", 2),
    ],
    ids=str,
)
def test_local_orders(solver, noise, order):
    assert local_weak_order(solver, noise) == pytest.approx(order, abs=NEAR)


def test_the_expansion_of_a_known_process(monkeypatch):
    """Geometric Brownian motion: E yᵏ = yᵏ exp((kf + ½k(k − 1)g²) h), in either calculus."""
    f, g, h, y = -0.6, 0.4, 1 / 64, expansion.PLACE
    monkeypatch.setattr(expansion, "DRIFT", np.array([[0.0, f]]))
    for calculus, drift in (("ito", f), ("stratonovich", f + 0.5 * g * g)):
        raw = [y**k * math.exp((k * drift + 0.5 * k * (k - 1) * g * g) * h) for k in range(4)]
        found = expansion._expanded(calculus, np.array([[0.0, g]]), h)
        central = [sum(math.comb(k, j) * raw[j] * (-y) ** (k - j) for j in range(k + 1)) for k in (1, 2, 3)]
        assert found[:3] == pytest.approx(central, rel=0, abs=EXACT)


class Bent(Platen):
    """Adds a second difference of the diffusion, which is zero for a diffusion that is linear."""

    def step(self, term, t0, t1, y0, carry):
        step, h, w = super().step(term, t0, t1, y0, carry), abs(t1 - t0), term.control(t0, t1).w
        g = term.diffusion(t0, y0)
        up, down = (term.diffusion(t0, y0 + sign * h**0.5 * g) for sign in (1, -1))
        return Step(step.y + (up + down - 2 * g) * w)


def test_a_fault_that_linear_equations_do_not_show(double):
    linear = SDETerm(lambda t, y: -y, lambda t, y: 0.5 * y, noise="diagonal", calculus="ito")
    assert moments(Bent(), linear, 16) == pytest.approx(moments(Platen(), linear, 16), rel=EXACT)
    assert local_weak_order(Bent(), "diagonal") == pytest.approx(1, abs=NEAR)


def test_a_solver_that_stands_still_has_no_order():
    class Still(Euler):
        def step(self, term, t0, t1, y0, carry):
            return Step(y0)

    assert local_weak_order(Still(), "diagonal") == pytest.approx(0, abs=NEAR)
