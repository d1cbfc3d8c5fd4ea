"""Moments of linear equations, propagated exactly through the real steps: no sampling error stands in the way."""

import math

import pytest
import sdes
import torch

from deqlight import SDETerm, solve
from deqlight.brownian import Increments
from deqlight.solvers import SRK, Euler, EulerHeun, Heun, Midpoint, Milstein, Platen, StratonovichMilstein
from deqlight.terms import Converted

WEAK = 0.2  # of a slope over steps of 1/16 to 1/64, with no sampling error; the next order of h is what is left
STEPS = (16, 32, 64)
A, B = -0.8, 0.9


def term(noise, drift=lambda t, y: A * y, diffusion=lambda t, y: B * y, calculus="ito"):
    return SDETerm(drift, diffusion, noise=noise, calculus=calculus)


def ornstein_uhlenbeck():
    mean, variance = math.exp(A) + 0.3 * (1 - math.exp(A)) / -A, B * B * (1 - math.exp(2 * A)) / (-2 * A)
    return term("additive", lambda t, y: A * y + 0.3, lambda t, y: B * torch.ones_like(y)), mean, mean**2 + variance


def geometric(noise, calculus="ito"):
    rate = A if calculus == "ito" else A + B * B / 2
    return term(noise, calculus=calculus), math.exp(rate), math.exp(2 * rate + B * B)


def hastening():
    """Coefficients that depend on time, −(1 + t) and 1 − t/2."""
    equation = term("diagonal", lambda t, y: -(1 + t) * y, lambda t, y: (1 - 0.5 * t) * y)
    return equation, math.exp(-1.5), math.exp(-3 + 1 - 0.5 + 0.25 / 3)


ITO = {
    "additive": ornstein_uhlenbeck(),
    "diagonal": geometric("diagonal"),
    "scalar": geometric("scalar"),
    "non-autonomous": hastening(),
}


def slopes(solver, equation, *exact):
    """The orders of the mean and of the second moment."""
    found = [sdes.moments(solver, equation, n) for n in STEPS]
    return [sdes.slope([abs(m[i] - exact[i]) for m in found], STEPS) for i in (0, 1)]


@pytest.mark.parametrize("name", ITO)
def test_platens_moments_are_of_order_two(name, double):
    assert slopes(Platen(), *ITO[name]) == pytest.approx([2, 2], abs=WEAK)


@pytest.mark.parametrize("name", ITO)
@pytest.mark.parametrize("solver", [Euler(), Milstein(), Milstein(derivative_free=True)], ids=repr)
def test_others_are_of_order_one(solver, name, double):
    mean, second = slopes(solver, *ITO[name])
    assert mean == pytest.approx(1, abs=WEAK) and 0.85 < second < 1.35


@pytest.mark.parametrize("solver", [SRK(), SRK(drift_order=3)], ids=repr)
def test_srk_is_of_order_three_halves_and_no_more(solver, double):
    for name in ITO:
        assert all(slope > 1.5 - WEAK for slope in slopes(solver, *ITO[name]))
    equation, _, second = ITO["non-autonomous"] if solver.drift_order == 2 else ITO["diagonal"]
    errors = [abs(sdes.moments(solver, equation, n)[1] - second) for n in (128, 256, 512)]
    assert sdes.slope(errors, (128, 256, 512)) == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("noise", ["diagonal", "scalar"])
@pytest.mark.parametrize("solver", [Heun(), Midpoint(), EulerHeun(), StratonovichMilstein()], ids=repr)
def test_stratonovichs_tend_to_stratonovichs_moments(solver, noise, double):
    mean, second = slopes(solver, *geometric(noise, "stratonovich"))
    assert mean == pytest.approx(1, abs=WEAK) and 0.75 < second < 1.35
    found = sdes.moments(solver, geometric(noise, "stratonovich")[0], 256)
    for m, wrong in zip(found, geometric(noise)[1:], strict=True):  # Itô's
        assert abs(m - wrong) > 0.2 * wrong


@pytest.mark.parametrize("noise", ["diagonal", "scalar"])
def test_converted_has_the_same_moments(noise, double):
    equation, *exact = geometric(noise, "stratonovich")
    assert slopes(Platen(), Converted(equation), *exact) == pytest.approx([2, 2], abs=WEAK)
    equation, *exact = geometric(noise)
    assert slopes(Heun(), Converted(equation), *exact)[0] == pytest.approx(1, abs=WEAK)


def test_evaluations():
    for noise, calls in (("additive", 4), ("diagonal", 5), ("scalar", 5)):
        equation = sdes.equation(noise, "ito", Increments(seed=1))
        assert solve(equation, torch.randn(2, 3), sdes.even(4), solver=Platen()).stats.nfe.tolist() == [4 * calls] * 2


@pytest.mark.parametrize("problem", [sdes.additive, sdes.diagonal, sdes.scalar], ids=lambda p: p.__name__)
def test_strong_order_one(problem, double):
    assert sdes.slope(sdes.errors(Platen(), problem("ito"))) == pytest.approx(1, abs=0.15)


def test_times_of_each_sample(double):
    equation = hastening()[0]
    w, _, _ = sdes.quadrature(0.25, nodes=3)
    y0, steps = torch.ones_like(w), equation._replace(path=sdes.Given(sdes.Increment(w)))
    wanted = Platen().step(steps, 0.5, 0.75, y0, None).y
    own = Platen().step(steps, torch.full_like(w, 0.5), torch.full_like(w, 0.75), y0, None).y
    assert torch.allclose(own, wanted, rtol=1e-13)
