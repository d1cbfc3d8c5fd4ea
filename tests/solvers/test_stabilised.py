"""The Runge–Kutta–Chebyshev method: its polynomial, how far it is stable, and the heat equation."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp

from deqlight import Layered, ODETerm, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.solvers import RKC, Euler

EXACT = 1e-12  # of recurrences of some hundred terms in float64

STAGES = [2, 3, 5, 10, 20, 50, 100]


def stability_function(solver, z):
    """R(z): one step of length 1 on y' = zy, from 1."""
    term, y0 = ODETerm(lambda t, y: z[:, None] * y), torch.ones(len(z), 1, dtype=torch.float64)
    return solver.step(term, 0.0, 1.0, y0, solver.init(term, 0.0, 1.0, y0)).y[:, 0]


@pytest.mark.parametrize("s", STAGES)
def test_stages_are_shifted_chebyshev_polynomials(s, double):
    """R(z) = a + b T_s(w₀ + w₁ z), with R(0) = R'(0) = R''(0) = 1: the closed form by cosines."""
    solver, w0 = RKC(s), 1 + 2 / 13 / s**2
    z = torch.linspace(-solver.info.stability, 0.0, 101)
    w1 = (w0 + 1) / solver.info.stability
    x = w0 + w1 * z
    chebyshev = torch.where(
        x <= 1, torch.cos(s * torch.arccos(x.clamp(-1, 1))), torch.cosh(s * torch.arccosh(x.clamp(min=1)))
    )
    theta = math.acosh(w0)
    slope = s * math.sinh(s * theta) / math.sinh(theta)
    bend = (s**2 * math.cosh(s * theta) - math.cosh(theta) * slope) / math.sinh(theta) ** 2
    b = bend / slope**2
    assert w1 == pytest.approx(slope / bend, rel=1e-10)
    assert torch.allclose(stability_function(solver, z), 1 - b * math.cosh(s * theta) + b * chebyshev, atol=1e-10)


@pytest.mark.parametrize("s", STAGES)
def test_the_weights_of_the_stages_agree_with_their_nodes(s):
    """Each stage is exact for y' = 1, the last one is at the end of the step."""
    solver = RKC(s)
    assert solver.recurrence[-1].c == pytest.approx(1.0, abs=EXACT)
    nodes = [0.0, solver.first, *(stage.c for stage in solver.recurrence)]
    assert all(a < b for a, b in pairwise(nodes))
    seen = []
    term = ODETerm(lambda t, y: seen.append((t, y)) or torch.ones_like(y))
    solver.step(term, 0.0, 1.0, torch.zeros(1, 1, dtype=torch.float64), None)
    assert all(float(y) == pytest.approx(t, abs=EXACT) for t, y in seen) and len(seen) == s + 1


@pytest.mark.parametrize("s", STAGES)
def test_stable_as_far_as_claimed_and_not_much_farther(s, double):
    solver = RKC(s)
    reach = solver.info.stability
    inside = stability_function(solver, -torch.linspace(0.0, reach, 4001)).abs()
    assert float(inside.max()) <= 1.0 + EXACT
    if s > 2:
        damped = stability_function(solver, -torch.linspace(0.2 * reach, reach, 4001)).abs()
        assert float(damped.max()) < 0.97
    if s % 2 == 0:  # odd ones fall through zero first
        assert float(stability_function(solver, -torch.tensor([1.05 * reach]))) > 1.0
    assert reach >= 0.64 * s**2 if s >= 10 else reach > 0.49 * s**2


def test_stability_grows_with_the_square_of_the_stages():
    assert RKC(10).info.stability == pytest.approx(64.69, abs=0.01)
    assert RKC(100).info.stability / RKC(50).info.stability == pytest.approx(4.0, abs=0.01)


def test_the_error_estimate_is_the_published_one(double):
    solver, y0, h = RKC(6), torch.randn(3, 2), 0.2
    term = ODETerm(lambda t, y: -y * y + math.sin(t))
    f0 = term.vf(0.5, y0)
    step = solver.step(term, 0.5, 0.5 + h, y0, f0)
    f1 = term.vf(0.5 + h, step.y)
    assert torch.allclose(step.error, 0.8 * (y0 - step.y) + 0.4 * h * (f0 + f1), rtol=1e-10)
    assert torch.equal(step.carry, f1)


# The heat equation u_t = u_xx on (0, 1), with u = 0 at both ends, by second differences on 63 inner points

POINTS = 63
DX = 1 / (POINTS + 1)


def heat(t, u):
    left, right = torch.zeros_like(u), torch.zeros_like(u)
    left[:, 1:], right[:, :-1] = u[:, :-1], u[:, 1:]
    return (left - 2 * u + right) / DX**2


def start():
    x = torch.arange(1, POINTS + 1) * DX
    return torch.stack([torch.sin(math.pi * x), torch.sin(math.pi * x) + 0.5 * torch.sin(5 * math.pi * x)])


def decayed(t):
    x = torch.arange(1, POINTS + 1) * DX

    def mode(k):
        rate = 4 / DX**2 * math.sin(k * math.pi * DX / 2) ** 2
        return math.exp(-rate * t) * torch.sin(k * math.pi * x)

    return torch.stack([mode(1), mode(1) + 0.5 * mode(5)])


def test_heat_flows_where_euler_at_the_same_cost_explodes(double):
    """h·4/dx² is 205 in the one case, within the interval of RKC(20), and 10 in the other, where Euler may go to 2."""
    solution = solve(ODETerm(heat), start(), [0.0, 0.1], solver=RKC(20), controller=Constant(steps=8))
    assert torch.allclose(solution.y1, decayed(0.1), atol=5e-3)
    nfe = int(solution.stats.nfe[0])
    assert nfe == 161
    exploded = solve(ODETerm(heat), start(), [0.0, 0.1], solver=Euler(), controller=Constant(steps=nfe)).y1
    assert float(exploded.abs().max()) > 1e10


def test_measured_steps_on_the_heat_equation(double):
    solution = solve(ODETerm(heat), start(), [0.0, 0.1], solver=RKC(20), controller=PID(1e-4, 1e-4))
    assert torch.allclose(solution.y1, decayed(0.1), atol=1e-3)
    assert int(solution.stats.nfe.max()) < 0.1 * 4 / DX**2 / 2  # what Euler needs to be stable at all


def test_a_reaction_that_diffuses_matches_an_implicit_reference(double):
    def reaction(t, u):
        return heat(t, u) / 10 + u - u**3 + torch.as_tensor(t).cos()

    u0 = start()[1:]
    found = solve(ODETerm(reaction), u0, [0.0, 1.0], solver=RKC(15), controller=PID(1e-6, 1e-8)).y1[0]

    def numpy_reaction(t, u):
        return reaction(t, torch.as_tensor(u)[None])[0].numpy()

    reference = solve_ivp(numpy_reaction, (0.0, 1.0), u0[0].numpy(), "Radau", rtol=1e-9, atol=1e-11).y[:, -1]
    assert torch.allclose(found, torch.as_tensor(reference), atol=1e-5)


def test_layers_are_evaluated_anew(double):
    """One more evaluation a layer, and the steps of a layer know nothing of the one before."""
    term = Layered([lambda t, y, k=k: -k * y for k in (1.0, 2.0, 3.0)])
    solution = solve(term, torch.ones(1, 1), range(4), solver=RKC(5))
    assert int(solution.stats.nfe[0]) == 3 * 6
    factors = [float(stability_function(RKC(5), torch.tensor([-k]))) for k in (1.0, 2.0, 3.0)]
    assert float(solution.y1) == pytest.approx(math.prod(factors), rel=EXACT)


def test_one_stage_is_too_few():
    with pytest.raises(InputError, match="RKC got stages=1; it needs at least 2"):
        RKC(1)
