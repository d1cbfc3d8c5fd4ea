"""Stiff problems of the literature: published digits, and SciPy's Radau on batches of different samples.

Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, §IV.10; Mazzia & Magherini, Test Set for IVP
Solvers, 2008.
"""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from deqlight import ODETerm, solve
from deqlight.controllers import PID
from deqlight.errors import SolverFailure
from deqlight.solvers import Dopri5, Kvaerno5, RadauIIA5, Rodas4

AGREES = 1e-4
"""Both solve at a relative tolerance of 1e-6; errors of some hundred steps add up."""

PUBLISHED = 1e-5
"""The digits are published to nine or more places; the tolerance is 1e-7."""

MOST = 20_000

SOLVERS = pytest.mark.parametrize("cls", [RadauIIA5, Kvaerno5, Rodas4])

pytestmark = pytest.mark.usefixtures("double")


class Rates(ODETerm):
    """A field `(rates, t, y)` with rates of its own for each sample, which follow those that are still running."""

    def __init__(self, fn, rates, hook=None):
        super().__init__(lambda t, y: torch.stack(fn(rates.unbind(1), t, y.unbind(1)), 1))
        self.fn, self.rates, self.hook = fn, rates, hook

    def rows(self, index):
        return Rates(self.fn, self.rates[index], self.hook)

    def wrap(self, hook):
        return Rates(self.fn, self.rates, hook)


def robertson(k, t, y):
    slow, fast, back = k[0] * y[0], k[1] * y[1] * y[1], k[2] * y[1] * y[2]
    return [back - slow, slow - fast - back, fast]


def robertson_jacobian(k, y):
    return [
        [-k[0], k[2] * y[2], k[2] * y[1]],
        [k[0], -2 * k[1] * y[1] - k[2] * y[2], -k[2] * y[1]],
        [0.0, 2 * k[1] * y[1], 0.0],
    ]


def van_der_pol(k, t, y):
    return [y[1], k[0] * (1 - y[0] ** 2) * y[1] - y[0]]


def van_der_pol_jacobian(k, y):
    return [[0.0, 1.0], [-2 * k[0] * y[0] * y[1] - 1, k[0] * (1 - y[0] ** 2)]]


def hires(k, t, y):
    a, b, c, d, e, f, g, h = y
    bound = 280 * f * h
    return [
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * f + 0.43 * g,
        -bound + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
        bound - 1.81 * g,
        -bound + 1.81 * g,
    ]


def oregonator(k, t, y):
    a, b, c = y
    return [77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)]


ROBERTSON = PID(1e-6, torch.tensor([1e-12, 1e-18, 1e-12], dtype=torch.float64))
VAN_DER_POL = PID(1e-6, 1e-9)


def robertson_batch(batch):
    """The published rates, and others up to half as large again."""
    spread = 0.5 * torch.rand(batch, 3)
    spread[0] = 0.0
    rates = torch.tensor([0.04, 3e7, 1e4]) * (1 + spread)
    return Rates(robertson, rates), torch.tensor([1.0, 0.0, 0.0]).repeat(batch, 1), [0.0, 1e11]


def van_der_pol_batch(batch):
    """μ = 1000, from (2, 0) and from other places on the slow branch."""
    y0 = torch.stack([2 + 0.4 * (torch.rand(batch) - 0.5), torch.zeros(batch)], 1)
    y0[0, 0] = 2.0
    return Rates(van_der_pol, torch.full((batch, 1), 1000.0)), y0, [0.0, 2000.0]


def scipys(term, jacobian, y0, ts, pid, sample):
    rates = term.rates[sample].tolist()
    found = solve_ivp(
        lambda t, y: term.fn(rates, t, y),
        ts,
        y0[sample].tolist(),
        method="Radau",
        rtol=1e-6,
        atol=np.asarray(torch.as_tensor(pid.atol)),
        jac=lambda t, y: jacobian(rates, y),
    )
    assert found.status == 0
    return torch.tensor(found.y[:, -1])


def agree(cls, batch, pid, jacobian, compared):
    term, y0, ts = batch
    with torch.no_grad():
        solution = solve(term, y0, ts, solver=cls(), controller=pid, max_steps=MOST)
    for sample in compared:
        reference = scipys(term, jacobian, y0, ts, pid, sample)
        assert torch.allclose(solution.y1[sample], reference, rtol=AGREES, atol=0), sample
    return solution


@SOLVERS
def test_robertson(cls):
    y1 = agree(cls, robertson_batch(3), ROBERTSON, robertson_jacobian, range(3)).y1[0]
    assert torch.allclose(y1, torch.tensor([2.08334015e-8, 8.33336077e-14, 0.999999979167]), rtol=AGREES, atol=0)


@SOLVERS
def test_van_der_pol(cls):
    y1 = agree(cls, van_der_pol_batch(3), VAN_DER_POL, van_der_pol_jacobian, range(3)).y1[0]
    assert torch.allclose(y1, torch.tensor([1.70616773217, -8.92809701e-4]), rtol=AGREES, atol=0)


@pytest.mark.slow
@SOLVERS
@pytest.mark.parametrize(
    ("make", "pid", "jacobian"),
    [(robertson_batch, ROBERTSON, robertson_jacobian), (van_der_pol_batch, VAN_DER_POL, van_der_pol_jacobian)],
    ids=["Robertson", "van der Pol"],
)
def test_batches_of_256(cls, make, pid, jacobian):
    batch = make(256)
    solution = agree(cls, batch, pid, jacobian, range(256))
    term, y0, ts = batch
    for sample in (0, 100, 255):
        index = torch.tensor([sample])
        with torch.no_grad():
            alone = solve(term.rows(index), y0[index], ts, solver=cls(), controller=pid, max_steps=MOST)
        assert torch.allclose(alone.y1[0], solution.y1[sample], rtol=1e-12, atol=0)
        assert alone.stats.nfe[0] == solution.stats.nfe[sample]


@SOLVERS
def test_hires(cls):
    y0 = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057]])
    term, pid = Rates(hires, torch.zeros(1, 1)), PID(1e-7, 1e-10)
    y1 = solve(term, y0, [0.0, 321.8122], solver=cls(), controller=pid, max_steps=MOST).y1[0]
    published = torch.tensor([7.37131257e-4, 6.2389683e-3, 2.85000160e-3])
    assert torch.allclose(y1[[0, 5, 7]], published, rtol=PUBLISHED, atol=0)


OREGONATOR = PID(1e-6, 1e-6)


@pytest.mark.parametrize("cls", [RadauIIA5, pytest.param(Kvaerno5, marks=pytest.mark.slow), Rodas4])
def test_oregonator(cls):
    term = Rates(oregonator, torch.zeros(1, 1))
    with torch.no_grad():
        solution = solve(
            term, torch.tensor([[1.0, 2.0, 3.0]]), [0.0, 360.0], solver=cls(), controller=OREGONATOR, max_steps=MOST
        )
    published = torch.tensor([1.0008148703, 1228.178522, 132.055494])
    assert torch.allclose(solution.y1[0], published, rtol=AGREES, atol=0)


@pytest.mark.parametrize("cls", [RadauIIA5, pytest.param(Kvaerno5, marks=pytest.mark.slow), Rodas4])
def test_one_stiff_sample_among_easy_ones_costs_its_own_evaluations(cls):
    rates = torch.ones(64, 1)
    rates[17] = 1000.0
    term, y0 = Rates(van_der_pol, rates), torch.tensor([[2.0, 0.0]]).repeat(64, 1)
    pid, ts = PID(1e-6, 1e-8), [0.0, 10.0]
    with torch.no_grad():
        together = solve(term, y0, ts, solver=cls(), controller=pid, max_steps=MOST)
        for sample in (0, 17):
            index = torch.tensor([sample])
            alone = solve(term.rows(index), y0[index], ts, solver=cls(), controller=pid, max_steps=MOST)
            assert torch.allclose(alone.y1[0], together.y1[sample], rtol=1e-12, atol=0)
            assert alone.stats.nfe[0] == together.stats.nfe[sample]


def test_explicit_methods_fail_with_a_hint_at_stiffness():
    term, y0, ts = van_der_pol_batch(1)
    with pytest.raises(SolverFailure, match="stiff"):
        solve(term, y0, ts, solver=Dopri5(), controller=VAN_DER_POL, max_steps=300)
