"""Exponential methods: order, stiff linear parts at no cost, and what they are where L vanishes."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp

from deqlight import Layered, ODETerm, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.solvers import AB2, ETD1, ETD2, ETDRK4, RK4, Euler, StepDoubling
from deqlight.terms import DiagonalFlow, MatrixFlow, Semilinear

EXACT = 1e-13  # relative, of two ways to compute one thing in float64
ORDER = 0.15  # of the slope over the last doublings, in the asymptotic range

SOLVERS = [ETD1(), ETD2(), ETDRK4()]


def end(term, y0, t1, solver, steps):
    return solve(term, y0, [0.0, t1], solver=solver, controller=Constant(steps=steps), max_steps=100_000).y1


def slopes(errors):
    return [math.log2(float(a) / float(b)) for a, b in pairwise(errors)]


# Where L vanishes, they are methods that everybody knows


@pytest.mark.parametrize(("solver", "classic"), zip(SOLVERS, [Euler(), AB2(), RK4()], strict=True), ids=repr)
def test_without_a_linear_part_they_are_classic_methods(solver, classic, double):
    def field(t, y):
        return torch.tanh(y.flip(1)) * (1 + t)

    y0, ts = torch.randn(3, 4), [0.0, 0.3, 0.5, 0.6, 1.0]
    semilinear = Semilinear(DiagonalFlow(torch.zeros(4)), field)
    got, expected = solve(semilinear, y0, ts, solver=solver), solve(ODETerm(field), y0, ts, solver=classic)
    assert torch.allclose(got.ys, expected.ys, rtol=EXACT)
    assert torch.equal(got.stats.nfe, expected.stats.nfe)


# Order on problems that are not stiff, do not commute and depend on time: y' = Ly + tanh of the rotated y + forcing


def turning():
    matrix = torch.tensor([[-0.5, 1.0, 0.0], [-1.0, -0.2, 0.3], [0.2, 0.0, -2.0]])

    def field(t, y):
        wave = torch.stack([torch.sin(t + torch.arange(3.0)), torch.cos(2 * t + torch.arange(3.0))])
        return torch.tanh(y.roll(1, 1) + wave[0]) + 0.5 * wave[1]

    return matrix, lambda t, y: field(torch.as_tensor(t), y)


def reference(matrix, field, y0, t1):
    def whole(t, y):
        y = torch.as_tensor(y).reshape(y0.shape)
        return (y @ matrix.T + field(t, y)).numpy().ravel()

    found = solve_ivp(whole, (0.0, t1), y0.numpy().ravel(), "DOP853", rtol=1e-13, atol=1e-14)
    return torch.as_tensor(found.y[:, -1]).reshape(y0.shape)


@pytest.mark.parametrize(("solver", "steps"), zip(SOLVERS, (64, 32, 16), strict=True), ids=repr)
def test_order_with_a_matrix_and_a_field_that_depends_on_time(solver, steps, double):
    matrix, field = turning()
    y0 = torch.randn(2, 3)
    exact = reference(matrix, field, y0, 2.0)
    term = Semilinear(MatrixFlow(matrix), field)
    errors = [(end(term, y0, 2.0, solver, steps * 2**i) - exact).abs().max() for i in range(3)]
    assert slopes(errors) == pytest.approx([solver.info.order] * 2, abs=ORDER)


@pytest.mark.parametrize(("solver", "steps"), zip(SOLVERS, (64, 32, 16), strict=True), ids=repr)
def test_order_on_steps_of_changing_length(solver, steps, double):
    matrix, field = turning()
    y0 = torch.randn(2, 3)
    exact, term, errors = reference(matrix, field, y0, 2.0), Semilinear(MatrixFlow(matrix), field), []
    for n in (steps, 2 * steps, 4 * steps):
        ts = torch.cat([(torch.arange(n) + torch.arange(n) % 2 / 3) * (2 / n), torch.tensor([2.0])])
        errors.append((solve(term, y0, ts, solver=solver).y1 - exact).abs().max())
    assert slopes(errors) == pytest.approx([solver.info.order] * 2, abs=ORDER)


# Stiff linear parts


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("rate", [-1.0, -1e3, -1e6, 2.0])
def test_exact_for_a_constant_rest_and_any_step(solver, rate, double):
    """y' = λy + 3 from 1, in two steps of 5."""
    term = Semilinear(DiagonalFlow(torch.tensor([rate])), lambda t, y: torch.full_like(y, 3.0))
    exact = math.exp(10 * rate) + 3 * math.expm1(10 * rate) / rate
    assert float(end(term, torch.ones(1, 1), 10.0, solver, 2)) == pytest.approx(exact, rel=1e-11)


def followed(solver, steps, rate=-1e6):
    """The error at 3 of y' = λ(y − cos t) − sin t from 0, far off the slow solution cos t."""
    term = Semilinear(DiagonalFlow(torch.tensor([rate])), lambda t, y: -rate * math.cos(t) - math.sin(t) + 0 * y)
    return abs(float(end(term, torch.zeros(1, 1), 3.0, solver, steps)) - math.cos(3.0))


@pytest.mark.parametrize(("solver", "bound"), zip(SOLVERS, (0.03, 0.02, 1e-8), strict=True), ids=repr)
def test_a_stiff_part_costs_no_steps(solver, bound, double):
    """hλ is −10⁵: thirty steps, where explicit methods need a million."""
    assert followed(solver, 30) < bound


@pytest.mark.parametrize(("solver", "order"), zip(SOLVERS, (1, 2, 2), strict=True), ids=repr)
def test_order_while_the_step_is_long_for_the_stiff_part(solver, order, double):
    """Order 1 and 2 are kept; ETDRK4 falls to 2, at errors a million times smaller."""
    errors = [followed(solver, n) for n in (64, 128, 256, 512)]
    assert slopes(errors)[-2:] == pytest.approx([order] * 2, abs=ORDER)


def test_a_reaction_that_diffuses_matches_an_implicit_reference(double):
    """Allen and Cahn's equation on 31 points, by 40 steps, of which an explicit method would need 400."""
    n, eps = 31, 0.05
    dx = 1 / (n + 1)
    laplace = (torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1) - 2 * torch.eye(n)) * (eps / dx**2)
    x = torch.arange(1, n + 1) * dx
    y0 = (torch.sin(math.pi * x) + 0.3 * torch.sin(3 * math.pi * x))[None]
    term = Semilinear(MatrixFlow(laplace), lambda t, y: y - y**3)

    def whole(t, y):
        return laplace.numpy() @ y + y - y**3

    exact = solve_ivp(whole, (0.0, 4.0), y0[0].numpy(), "Radau", rtol=1e-10, atol=1e-12).y[:, -1]
    errors = [float((end(term, y0, 4.0, solver, 40)[0] - torch.as_tensor(exact)).abs().max()) for solver in SOLVERS]
    assert errors[0] < 2e-2 and errors[1] < 2e-3 and errors[2] < 1e-6


# What a solve is made of


def test_evaluations_are_those_of_the_nonlinear_part():
    calls = []
    term = Semilinear(DiagonalFlow(-torch.ones(2)), lambda t, y: calls.append(t) or torch.sin(y))
    for solver, nfe in zip(SOLVERS, (5, 5, 20), strict=True):
        calls.clear()
        solution = solve(term, torch.ones(3, 2), range(6), solver=solver)
        assert int(solution.stats.nfe[0]) == len(calls) == nfe
    assert sorted(set(calls)) == [n / 2 for n in range(11)]


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_each_step_of_a_layered_term_has_its_own_linear_part(solver, double):
    rates = [-torch.rand(2) for _ in range(3)]
    term = Semilinear(Layered([DiagonalFlow(rate) for rate in rates]), Layered([lambda t, y: 0 * y] * 3))
    y0 = torch.randn(3, 2)
    y1 = solve(term, y0, range(4), solver=solver).y1
    assert torch.allclose(y1, y0 * torch.exp(sum(rates)), rtol=EXACT)
    back = solve(term, y1, range(3, -1, -1), solver=solver).y1
    assert torch.allclose(back, y0, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize(
    "make", [lambda m: MatrixFlow(m), lambda m: DiagonalFlow(m.diagonal())], ids=["matrix", "diag"]
)
def test_each_sample_may_have_a_step_of_its_own(solver, make, double):
    """A step with times for each sample is each sample's own step."""
    matrix, field = turning()
    term, y0 = Semilinear(make(matrix), field), torch.randn(3, 3)
    t0, t1 = torch.tensor([[0.0], [0.5], [1.0]]), torch.tensor([[0.1], [1.0], [0.2]])
    once = solver.step(term, t0, t1, y0, None)
    twice = solver.step(term, t1, t1 + 0.1, once.y, once.carry).y
    for i in range(3):
        a, b, y = float(t0[i]), float(t1[i]), y0[i : i + 1]
        alone = solver.step(term, a, b, y, None)
        assert torch.allclose(once.y[i], alone.y[0], rtol=1e-12)
        assert torch.allclose(twice[i], solver.step(term, b, b + 0.1, alone.y, alone.carry).y[0], rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("rate", [0.0, -0.3, -50.0])
def test_gradients_of_rates_state_and_field(solver, rate, double):
    y0 = torch.randn(2, 3, requires_grad=True)
    rates = torch.full((3,), rate, requires_grad=True)
    scale = torch.tensor(0.7, requires_grad=True)

    def end(y0, rates, scale):
        term = Semilinear(DiagonalFlow(rates), lambda t, y: scale * torch.tanh(y.roll(1, 1)))
        return solve(term, y0, [0.0, 0.2, 0.5, 0.6], solver=solver).y1

    assert torch.autograd.gradcheck(end, (y0, rates, scale))


def test_step_doubling_gives_them_an_error_estimate(double):
    matrix, field = turning()
    y0, options = torch.randn(2, 3), {"solver": StepDoubling(ETDRK4()), "controller": PID(1e-8, 1e-8)}
    found = solve(Semilinear(MatrixFlow(matrix), field), y0, [0.0, 2.0], **options)
    assert torch.allclose(found.y1, reference(matrix, field, y0, 2.0), atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_other_terms_are_refused(solver):
    with pytest.raises(InputError, match="got the term ODETerm; it integrates Semilinear"):
        solve(ODETerm(lambda t, y: -y), torch.ones(1, 1), [0.0, 1.0], solver=solver)
