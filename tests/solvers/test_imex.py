"""Additive methods: which part is evaluated where, their formulas, and gradients of both parts."""

import numpy as np
import pytest
import torch
from torch import nn

from deqlight import ODETerm, solve
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.solvers import IMEXEuler, ImplicitEuler, KenCarp4
from deqlight.terms import DiagonalFlow, Semilinear, Split

ROUNDED = 1e-12
"""What some hundred operations leave of a number of size one."""

DIFFERENCED = 1e-9
"""Fourth-order differences over 3e-4 of smooth functions of size one."""

BOTH = pytest.mark.parametrize("cls", [IMEXEuler, KenCarp4])

pytestmark = pytest.mark.usefixtures("double")


def test_imex_euler_is_its_formula():
    """y₁ = y₀ + h (sin y₀ − 50 y₁)."""
    y0, h = torch.tensor([[0.3], [0.8]]), 0.25
    term = Split(lambda t, y: torch.sin(y), lambda t, y: -50 * y)
    y1 = solve(term, y0, [0.0, h], solver=IMEXEuler()).y1
    assert torch.allclose(y1, (y0 + h * torch.sin(y0)) / (1 + 50 * h), rtol=ROUNDED)


def test_both_tableaus_of_kencarp4_share_nodes_and_meet_the_coupling_conditions():
    """Order 4 of an additive method with b in common: b·c, b·Ac, b·(c × Ac), b·AAc, for every mixture of matrices."""
    implicit = KenCarp4.implicit.matrix
    explicit = np.array([[*row, *[0.0] * (6 - i)] for i, row in enumerate(KenCarp4.explicit)])
    b, c = implicit[-1], np.array(KenCarp4.implicit.c)
    near = lambda value: pytest.approx(value, abs=1e-14)  # noqa: E731
    for k in range(4):
        assert b @ c**k == near(1 / (k + 1))
    for one in (implicit, explicit):
        assert one.sum(1) == near(c)
        assert b @ one @ c == near(1 / 6) and b @ (c * (one @ c)) == near(1 / 8) and b @ one @ c**2 == near(1 / 12)
        for other in (implicit, explicit):
            assert b @ one @ other @ c == near(1 / 24)
    error = np.array(KenCarp4.implicit.b_error)
    assert error.sum() == near(0) and error @ c == near(0) and error @ c**2 == near(0)
    assert error @ implicit @ c == near(0) and error @ explicit @ c == near(0) and abs(error @ c**3) > 1e-4


def test_the_explicit_part_is_never_iterated():
    calls = {"explicit": [], "implicit": []}

    class Counted(nn.Module):
        def __init__(self, name, fn):
            super().__init__()
            self.name, self.fn = name, fn

        def forward(self, t, y):
            calls[self.name].append(t)
            return self.fn(y)

    term = Split(Counted("explicit", torch.sin), Counted("implicit", lambda y: -30 * y**3))
    nfe = solve(term, torch.rand(1, 2), [0.0, 0.5], solver=KenCarp4()).stats.nfe
    assert calls["explicit"] == pytest.approx([0.5 * c for c in KenCarp4.implicit.c])
    assert int(nfe[0]) == 6 + len(calls["implicit"]) and len(calls["implicit"]) > 10


@BOTH
def test_without_an_explicit_part_they_are_the_implicit_method(cls):
    term = Split(lambda t, y: 0 * y, lambda t, y: -(y**3) + torch.cos(torch.as_tensor(t)))
    alone = ODETerm(lambda t, y: -(y**3) + torch.cos(torch.as_tensor(t)))
    y0 = torch.rand(3, 2)
    if cls is IMEXEuler:
        expected = solve(alone, y0, [0.0, 0.5, 1.0], solver=ImplicitEuler()).y1
        assert torch.allclose(solve(term, y0, [0.0, 0.5, 1.0], solver=cls()).y1, expected, rtol=ROUNDED)
    stiff = Split(lambda t, y: 0 * y, lambda t, y: -1e8 * y)
    assert float(solve(stiff, y0, [0.0, 1.0], solver=cls()).y1.abs().max()) < 1e-6


@BOTH
def test_semilinear_terms_are_split_terms(cls):
    rates = torch.tensor([-1.0, -100.0, -1e5])
    term = Semilinear(DiagonalFlow(rates), lambda t, y: torch.sin(y))
    same = Split(lambda t, y: torch.sin(y), lambda t, y: rates * y)
    y0 = torch.rand(4, 3)
    found = [solve(which, y0, [0.0, 1.0], solver=cls(), controller=Constant(steps=5)).y1 for which in (term, same)]
    assert torch.allclose(*found, rtol=ROUNDED)


def test_a_reaction_and_a_diffusion_by_measured_steps():
    """Fisher's equation on 40 points, diffusion implicit, per sample; against many small steps of RK4."""
    from deqlight.solvers import RK4

    n = 40
    laplace = 30.0 * (torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1) - 2 * torch.eye(n))
    term = Split(lambda t, y: y * (1 - y), lambda t, y: y @ laplace)
    y0 = torch.exp(-((torch.linspace(-3, 3, n) - torch.tensor([[0.0], [1.0]])) ** 2))
    exact = solve(ODETerm(lambda t, y: term.vf(t, y)), y0, [0.0, 1.0], solver=RK4(), controller=Constant(steps=400)).y1
    for dense in (64, 0):
        solver, pid = KenCarp4(dense=dense), PID(1e-7, 1e-7)
        solution = solve(term, y0, [0.0, 1.0], solver=solver, controller=pid)
        assert torch.allclose(solution.y1, exact, atol=1e-6) and int(solution.stats.accepted.max()) < 60


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "Krylov"])
@BOTH
def test_gradients_of_both_parts(cls, dense):
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    term = Split(lambda t, y: torch.tanh(one(y)), lambda t, y: torch.tanh(two(y)) - 5 * y)
    params, y0 = [*one.parameters(), *two.parameters()], torch.randn(2, 3)
    starts, ways = [p.detach().clone() for p in params], [torch.randn_like(p) for p in params]

    def loss(shift):
        with torch.no_grad():
            for p, start, way in zip(params, starts, ways, strict=True):
                p.copy_(start + shift * way)
        return solve(term, y0, [0.0, 0.5, 1.0], solver=cls(dense=dense)).y1.sin().sum()

    grads = torch.autograd.grad(loss(0.0), params)
    exact = sum(float((g * way).sum()) for g, way in zip(grads, ways, strict=True))
    h = 3e-4
    with torch.no_grad():
        f = {k: float(loss(k * h)) for k in (-2, -1, 1, 2)}
    assert abs((8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h) - exact) < DIFFERENCED * (1 + abs(exact))


@BOTH
def test_other_terms_are_refused(cls):
    with pytest.raises(InputError, match="it integrates Split"):
        solve(ODETerm(lambda t, y: -y), torch.ones(1, 1), [0.0, 1.0], solver=cls())
