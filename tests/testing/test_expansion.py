"""Moments of one step by the generator: right where they are known, and better at finding faults than linear equations."""

import math

import pytest
import torch

from deqlight.solvers import SRK, Euler, Heun, LogODE, Platen, Step
from deqlight.states import each
from deqlight.testing import expansion
from deqlight.testing.expansion import local_weak_order

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
    monkeypatch.setattr(expansion, "DRIFT", torch.tensor([[0.0, f]]).double().numpy())
    for calculus, drift in (("ito", f), ("stratonovich", f + 0.5 * g * g)):
        raw = [y**k * math.exp((k * drift + 0.5 * k * (k - 1) * g * g) * h) for k in range(4)]
        found = expansion._expanded(calculus, torch.tensor([[0.0, g]]).double().numpy(), h)
        central = [sum(math.comb(k, j) * raw[j] * (-y) ** (k - j) for j in range(k + 1)) for k in (1, 2, 3)]
        assert found[:3] == pytest.approx(central, rel=0, abs=EXACT)


class HalfAQuarter(Platen):
    """Curves the diffusion too much: nothing that a diffusion shows which is linear, as y₊ and y₋ are symmetric."""

    def step(self, term, t0, t1, y0, carry):
        wide = getattr(term, "diffusion", None)
        step = super().step(term, t0, t1, y0, carry)
        if wide is None:
            return step
        h, w = abs(t1 - t0), term.control(t0, t1).w
        g = wide(t0, y0)
        bend = each(lambda a, b, c: a + b - 2 * c, wide(t0, y0 + h**0.5 * g), wide(t0, y0 - h**0.5 * g), g)
        return Step(step.y + bend * w)


def test_a_fault_that_linear_equations_do_not_show():
    solver = HalfAQuarter()
    term = expansion._term("ito", "diagonal")
    assert term.noise == "diagonal"
    assert local_weak_order(solver, "diagonal") == pytest.approx(1, abs=NEAR)


def test_exact_moments_have_no_order():
    class Still(Euler):
        def step(self, term, t0, t1, y0, carry):
            return Step(y0)

    assert local_weak_order(Still(), "additive") == pytest.approx(0, abs=NEAR)
