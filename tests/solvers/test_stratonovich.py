"""Methods for Stratonovich's equations: their orders by noise, and what Lévy's area is worth."""

import pytest
import sdes
import torch

from deqlight import SDETerm, solve
from deqlight.brownian import Grid, Increment, Increments
from deqlight.errors import InputError
from deqlight.solvers import Euler, EulerHeun, Heun, LogODE, Midpoint, ReversibleHeun
from deqlight.terms import Converted

EXACT = 1e-13  # relative, of two ways to compute one thing in float64
STRONG = 0.15  # of a slope over steps of 1/8 to 1/64 and 400 paths; seeds move it by 0.1
METHODS = [EulerHeun(), Heun(), Midpoint(), ReversibleHeun()]


@pytest.mark.parametrize("problem", [sdes.additive, sdes.diagonal, sdes.scalar], ids=lambda p: p.__name__)
@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_strong_order_one_where_noise_commutes(solver, problem, double):
    assert sdes.slope(sdes.errors(solver, problem("stratonovich"))) == pytest.approx(1, abs=STRONG)


@pytest.mark.parametrize("solver", METHODS[:3], ids=repr)
def test_strong_order_one_half_where_it_does_not(solver, double):
    slope = sdes.slope(sdes.errors(solver, sdes.general("stratonovich")))
    assert slope == pytest.approx(solver.info.strong_order["general"], abs=STRONG)


def test_the_reversible_method_gets_there_from_above(double):
    """Its second state starts in the first; the order shows once that is forgotten."""
    errors = sdes.errors(ReversibleHeun(), sdes.general("stratonovich"), (64, 128, 256))
    assert sdes.slope(errors, (64, 128, 256)) == pytest.approx(0.5, abs=0.2)


def test_eulers_method_for_general_noise(double):
    """The reference is Stratonovich's solution of the converted equation."""
    assert sdes.slope(sdes.errors(Euler(), sdes.general("ito"))) == pytest.approx(0.5, abs=STRONG)


def test_levys_area_gives_strong_order_one(double):
    assert sdes.slope(sdes.errors(LogODE(), sdes.general("stratonovich"))) == pytest.approx(1, abs=STRONG)


def test_levys_area_of_a_step_is_its_sign_and_all(double):
    """dy₁ = dW₁, dy₂ = y₁ dW₂ is solved by its area: y₂ = ½ W₁W₂ + A₁₂ from zero."""

    def columns(t, y):
        one, zero = torch.ones_like(y[:, 0]), torch.zeros_like(y[:, 0])
        return torch.stack([torch.stack([one, zero], -1), torch.stack([zero, y[:, 0]], -1)], 1)

    brownian = Increments(base=sdes.even(64), seed=2)
    term = SDETerm(lambda t, y: 0 * y, columns, noise="general", calculus="stratonovich", brownian=brownian, channels=2)
    y0 = torch.zeros(50, 2)
    w, _, a = term.drawn(y0, Grid(lambda: [0.0, 1.0], True), 2).path.increment(0.0, 1.0)
    wanted = torch.stack([w[:, 0], 0.5 * w[:, 0] * w[:, 1] + a[:, 0, 1]], -1)
    once, often = (solve(term, y0, sdes.even(n), solver=LogODE()).y1 for n in (1, 64))
    assert torch.allclose(once, wanted, rtol=EXACT, atol=EXACT)
    assert torch.allclose(often, wanted, rtol=EXACT, atol=EXACT)


def test_a_step_of_euler_and_heun_by_hand(double):
    term = SDETerm(lambda t, y: -y, lambda t, y: (1 + t) * y.sin(), noise="diagonal", calculus="stratonovich")
    y0, w, h = torch.rand(4, 2), torch.randn(4, 2), 0.25
    found = EulerHeun().step(term._replace(path=sdes.Given(Increment(w))), 0.0, h, y0, None).y
    by_hand = y0 - h * y0 + 0.5 * w * (y0.sin() + (1 + h) * (y0 + w * y0.sin()).sin())
    assert torch.allclose(found, by_hand, rtol=EXACT)


@pytest.mark.parametrize("solver", [EulerHeun(), LogODE()], ids=repr)
def test_modes_of_autograd_and_shapes(solver, double):
    term = sdes.equation("general", "stratonovich", Increments(seed=5))
    y0 = torch.randn(4, 3, requires_grad=True)
    wanted = solve(term, y0, sdes.even(3), solver=solver)
    assert wanted.stats.nfe.tolist() == [3 * solver.info.nfe_step] * 4
    with torch.no_grad():
        assert torch.equal(solve(term, y0, sdes.even(3), solver=solver).y1, wanted.y1)
    with torch.inference_mode():
        assert torch.equal(solve(term, y0.clone(), sdes.even(3), solver=solver).y1, wanted.y1)
    assert torch.autograd.gradcheck(lambda y: solve(term, y, sdes.even(3), solver=solver).y1, y0)

    def image(t, y):  # a state (batch, 3, 1)
        return term.diffusion(t, y[..., 0])[:, :, None]

    shaped = SDETerm(
        lambda t, y: term.drift(t, y[..., 0])[..., None],
        image,
        noise="general",
        calculus="stratonovich",
        brownian=Increments(seed=5),
        channels=2,
    )
    found = solve(shaped, y0[..., None], sdes.even(3), solver=solver).y1
    assert torch.allclose(found[..., 0], wanted.y1, rtol=EXACT)


def test_back_in_time_the_same_path_leads_home(double):
    """Stratonovich's equations run back along their path; the error is that of the steps."""
    for noise in ("additive", "diagonal", "scalar", "general"):
        solver = LogODE() if noise == "general" else Heun()
        term = sdes.equation(noise, "stratonovich", Increments(base=sdes.even(512), seed=4))
        y0 = torch.randn(16, 3)
        away = []
        for n in (64, 128, 256, 512):
            there = solve(term, y0, sdes.even(n), solver=solver).y1
            home = solve(term, there, sdes.even(n)[::-1], solver=solver).y1
            away.append(float((home - y0).detach().square().mean().sqrt()))
        assert away[-1] < 0.3 * away[0] and away[-1] < 0.02


def test_what_they_are_not_for(double):
    with pytest.raises(InputError, match="LogODE got diagonal noise; it integrates general noise"):
        solve(sdes.equation("diagonal", "stratonovich", Increments()), torch.ones(2, 3), [0, 1], solver=LogODE())
    with pytest.raises(InputError, match="sense of stratonovich"):
        solve(sdes.equation("general", "ito", Increments()), torch.ones(2, 3), [0, 1], solver=LogODE())
    term = Converted(sdes.equation("general", "ito", Increments()))
    assert solve(term, torch.ones(2, 3), [0, 1], solver=LogODE()).y1.isfinite().all()
