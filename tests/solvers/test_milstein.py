"""Milstein's methods: the derivative of g along g, by hand, in every mode of autograd, and to the order claimed."""

import pytest
import sdes
import torch
from torch import nn

from deqlight import SDETerm, solve
from deqlight.brownian import Increments
from deqlight.errors import InputError
from deqlight.solvers import Milstein, StratonovichMilstein
from deqlight.terms import Converted

EXACT = 1e-13  # relative, of two ways to compute one thing in float64
STRONG = 0.15  # of a slope over steps of 1/8 to 1/64 and 400 paths; seeds move it by 0.07
METHODS = [Milstein(), Milstein(derivative_free=True), StratonovichMilstein()]


def gbm(calculus="ito", noise="diagonal", rate=0.8):
    return SDETerm(
        lambda t, y: -0.5 * y, lambda t, y: rate * y, noise=noise, calculus=calculus, brownian=Increments(seed=3)
    )


def increment(term, y0, ts):
    from deqlight.brownian import Grid

    return term.drawn(y0, Grid(lambda: ts, True), 0).path.increment(ts[0], ts[-1]).w


@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
@pytest.mark.parametrize("noise", ["diagonal", "scalar"])
def test_a_step_by_hand(calculus, noise, double):
    solver = Milstein() if calculus == "ito" else StratonovichMilstein()
    term, y0, h = gbm(calculus, noise), torch.rand(5, 3) + 1, 0.25
    w = increment(term, y0, [0.0, h])
    square = w**2 - h if calculus == "ito" else w**2
    by_hand = y0 * (1 - 0.5 * h + 0.8 * w + 0.5 * 0.64 * square)
    assert torch.allclose(solve(term, y0, [0.0, h], solver=solver).y1, by_hand, rtol=EXACT)


def test_a_step_without_derivatives_by_hand(double):
    term, y0, h = gbm(), torch.rand(5, 3) + 1, 0.25
    w = increment(term, y0, [0.0, h])
    away = y0 - 0.5 * h * y0 + 0.8 * h**0.5 * y0
    by_hand = y0 * (1 - 0.5 * h + 0.8 * w) + 0.8 * (away - y0) * (w**2 - h) / (2 * h**0.5)
    found = solve(term, y0, [0.0, h], solver=Milstein(derivative_free=True)).y1
    assert torch.allclose(found, by_hand, rtol=EXACT)


@pytest.mark.parametrize("problem", [sdes.additive, sdes.diagonal, sdes.scalar], ids=lambda p: p.__name__)
@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_strong_order_one(solver, problem, double):
    slope = sdes.slope(sdes.errors(solver, problem(solver.info.calculus)))
    assert slope == pytest.approx(solver.info.strong_order[problem("ito").noise], abs=STRONG)


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_cheaper_modes_of_autograd_change_nothing(solver, double):
    term = sdes.equation("scalar", solver.info.calculus, Increments(seed=5))
    y0 = torch.randn(4, 3)
    wanted = solve(term, y0, sdes.even(4), solver=solver).y1
    assert wanted.requires_grad
    with torch.no_grad():
        found = solve(term, y0, sdes.even(4), solver=solver).y1
        assert torch.equal(found, wanted) and not found.requires_grad
    with torch.inference_mode():
        found = solve(term, y0.clone(), sdes.even(4), solver=solver).y1
        assert torch.equal(found, wanted) and found.is_inference()


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_gradients_once_and_twice(solver, double):
    term = sdes.equation("diagonal", solver.info.calculus, Increments(seed=5))
    y0 = torch.randn(2, 3, requires_grad=True)
    scale = term.g.field.scale.detach().clone().requires_grad_()

    def final(y0, scale):
        term.g.field._parameters["scale"] = scale
        return solve(term, y0, sdes.even(2), solver=solver).y1

    assert torch.autograd.gradcheck(final, (y0, scale))
    assert torch.autograd.gradgradcheck(final, (y0, scale))


@pytest.mark.parametrize("solver", [Milstein(), StratonovichMilstein()], ids=repr)
def test_gradients_reach_the_diffusion_through_its_derivative_alone(solver, double):
    """Where the noise is ±√h, the weights of g alone: a detached g′g would lose half of the gradient."""
    rate = nn.Parameter(torch.tensor(0.8))
    term = SDETerm(
        lambda t, y: 0 * y,
        lambda t, y: rate * y,
        noise="diagonal",
        calculus=solver.info.calculus,
        brownian=Increments(seed=3),
    )
    y0, h = torch.ones(3, 1), 0.25
    w = increment(term, y0, [0.0, h])
    square = w**2 - h if solver.info.calculus == "ito" else w**2
    (found,) = torch.autograd.grad(solve(term, y0, [0.0, h], solver=solver).y1.sum(), rate)
    assert torch.allclose(found, (w + rate.detach() * square).sum(), rtol=EXACT)


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_frozen_parameters_and_states_leave_no_graph(solver, double):
    term = sdes.equation("scalar", solver.info.calculus, Increments(seed=5)).requires_grad_(False)
    assert not solve(term, torch.randn(4, 3), sdes.even(2), solver=solver).y1.requires_grad


@pytest.mark.parametrize("solver", METHODS, ids=repr)
@pytest.mark.parametrize("shape", [(), (2,), (3, 2, 2)], ids=str)
def test_any_shape_of_a_sample(solver, shape, double):
    term, y0 = gbm(solver.info.calculus), torch.rand(4, *shape)
    y1 = solve(term, y0, sdes.even(2), solver=solver).y1
    assert y1.shape == y0.shape
    flat = solve(gbm(solver.info.calculus), y0.reshape(4, -1), sdes.even(2), solver=solver).y1
    assert torch.allclose(y1.reshape(4, -1), flat, rtol=EXACT)


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_tuples_are_as_their_parts_side_by_side(solver, double):
    calculus, brownian = solver.info.calculus, Increments(seed=3)

    def field(rate):
        return lambda t, y: tuple(rate * part for part in y) if isinstance(y, tuple) else rate * y

    term = SDETerm(field(-0.5), field(0.8), noise="diagonal", calculus=calculus, brownian=brownian)
    y0 = (torch.ones(4, 2), torch.ones(4, 3))
    first, second = solve(term, y0, [0.0, 0.25], solver=solver).y1
    w = increment(term, y0, [0.0, 0.25])
    for y1, part in zip((first, second), w, strict=True):
        one = SDETerm(field(-0.5), field(0.8), noise="diagonal", calculus=calculus)
        one = one._replace(path=sdes.Given(sdes.Increment(part)))
        assert torch.allclose(y1, solve(one, torch.ones_like(part), [0.0, 0.25], solver=solver).y1, rtol=EXACT)


@pytest.mark.parametrize("solver", METHODS, ids=repr)
def test_evaluations(solver):
    for noise in solver.info.strong_order:
        term = sdes.equation(noise, solver.info.calculus, Increments(seed=3))
        nfe = solve(term, torch.randn(2, 3), sdes.even(4), solver=solver).stats.nfe
        per_step = 2 if noise == "additive" else solver.info.nfe_step
        assert nfe.tolist() == [4 * per_step] * 2


def test_what_they_are_not_for(double):
    with pytest.raises(InputError, match="Milstein got general noise; it integrates additive, diagonal, scalar"):
        solve(sdes.equation("general", "ito", Increments()), torch.ones(2, 3), [0, 1], solver=Milstein())
    with pytest.raises(InputError, match=r"sense of ito.*Converted\(term\)"):
        solve(gbm("stratonovich"), torch.ones(2, 3), [0, 1], solver=Milstein())
    with pytest.raises(InputError, match="sense of stratonovich"):
        solve(gbm("ito"), torch.ones(2, 3), [0, 1], solver=StratonovichMilstein())
    mixing = sdes.equation("scalar", "ito", Increments())
    mixing.noise = "diagonal"
    with pytest.raises(InputError, match="diffusion of one number depends on others"):
        solve(mixing, torch.randn(2, 3), [0, 1], solver=Milstein())
    assert solve(Converted(gbm("stratonovich")), torch.ones(2, 3), [0, 1], solver=Milstein()).y1.isfinite().all()
