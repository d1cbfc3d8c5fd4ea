"""The truncated Neumann series of backward Euler: PolyNet, and what it is on fields that are not linear."""

from itertools import pairwise

import pytest
import torch

from deqlight import Layered, ODETerm, solve
from deqlight.controllers import Constant
from deqlight.errors import InputError
from deqlight.fields import PreActivation
from deqlight.solvers import Euler, Neumann
from deqlight.testing.order import observed_order

EXACT = 1e-13  # relative, of two ways to compute one thing in float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_poly_2_and_poly_3_bit_by_bit(dtype):
    blocks, x = [PreActivation(4).to(dtype) for _ in range(4)], torch.randn(3, 4, 8, 8, dtype=dtype)
    got = [solve(Layered(blocks), x, range(5), solver=Neumann(terms)).y1 for terms in (2, 3)]
    u = v = x
    for f in blocks:
        first = f(0.0, u)
        u = u + first + f(0.0, first)
        first = f(0.0, v)
        second = f(0.0, first)
        v = v + first + second + f(0.0, second)
    assert torch.equal(got[0], u) and torch.equal(got[1], v)


def test_one_term_is_a_residual_network():
    blocks, x = [PreActivation(4) for _ in range(4)], torch.randn(3, 4, 8, 8)
    euler = solve(Layered(blocks), x, range(5), solver=Euler()).y1
    assert torch.equal(solve(Layered(blocks), x, range(5), solver=Neumann(1)).y1, euler)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_linear_fields_differ_from_backward_euler_by_one_power_more(terms, consistent, double):
    a, y0 = torch.randn(4, 4), torch.randn(3, 4)
    term, gaps = ODETerm(lambda t, y: y @ a.T), []
    for h in (0.02, 0.01, 0.005):
        y1 = Neumann(terms, consistent).step(term, 0.0, h, y0, None).y
        gaps.append((y1 - torch.linalg.solve(torch.eye(4) - h * a, y0.T).T).abs().max())
    slopes = [float(torch.log2(a / b)) for a, b in pairwise(gaps)]
    assert slopes == pytest.approx([terms + 1, terms + 1], abs=0.15)


def test_both_forms_agree_on_linear_fields(double):
    a, y0 = torch.randn(4, 4), torch.randn(3, 4)
    term = ODETerm(lambda t, y: (1 + t) * (y @ a.T))
    literal, consistent = (Neumann(4, form).step(term, 0.3, 0.5, y0, None).y for form in (False, True))
    assert torch.allclose(literal, consistent, rtol=EXACT)


def test_both_forms_evaluate_at_the_end_of_the_step(double):
    y0, h = torch.randn(3, 4), 0.2
    term = ODETerm(lambda t, y: torch.sin(t * y))
    end = 0.5 + h

    def power(u):
        return h * torch.sin(end * u)

    literal, consistent = (Neumann(2, form).step(term, 0.5, end, y0, None).y for form in (False, True))
    assert torch.allclose(literal, y0 + power(y0) + power(power(y0)), rtol=EXACT)
    assert torch.allclose(consistent, y0 + power(y0 + power(y0)), rtol=EXACT)


def test_the_published_form_solves_another_equation_and_the_consistent_one_this_one(double):
    def error(solver, n):
        term, y0 = ODETerm(lambda t, y: torch.cos(y)), torch.zeros(1, 1)
        y1 = solve(term, y0, [0.0, 1.0], solver=solver, controller=Constant(steps=n)).y1
        return abs(float(y1) - 0.8657694832396586)  # the Gudermannian of 1

    assert error(Neumann(2), 256) > 0.3
    assert error(Neumann(2, consistent=True), 256) < 2e-3
    assert observed_order(Neumann(4, consistent=True)) == pytest.approx(1.0, abs=0.15)


def test_states_of_two_tensors_and_reversed_time(double):
    a = torch.randn(3, 3)
    term = ODETerm(lambda t, y: (y[0] @ a, y[1] @ a))
    y0 = (torch.randn(2, 3), torch.randn(2, 5, 3))
    step = Neumann(12).step(term, 0.1, 0.0, y0, None).y
    inverse = torch.linalg.inv(torch.eye(3) + 0.1 * a)
    assert all(torch.allclose(got, y @ inverse, atol=1e-6) for got, y in zip(step, y0, strict=True))


def test_a_series_has_terms():
    with pytest.raises(InputError, match="Neumann got terms=0; it needs at least one"):
        Neumann(0)
