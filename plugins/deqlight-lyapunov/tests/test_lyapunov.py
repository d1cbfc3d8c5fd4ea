"""The rates of linear fields are known; what pays for them contracts."""

import pytest
import torch
from deqlight_lyapunov import Expansion

from deqlight import ODETerm, solve
from deqlight.brownian import Key, keyed
from deqlight.fields import MLP
from deqlight.gradients import Checkpoint, Direct
from deqlight.plugin import manager
from deqlight.solvers import RK4

KEY = Key(seed=0)
GRID = [0.0, 0.5, 1.0, 1.5, 2.0]  # rates of −2 are far from where RK4 becomes unstable, at −5.6


def cost(field, y0, **options):
    with keyed(KEY):
        return solve(ODETerm(field), y0, [0.0, 2.0], solver=RK4(), costs=[Expansion(**options)]).costs["Expansion"]


def test_a_field_that_stretches_all_alike():
    """εᵀJε/‖ε‖² = a in all directions."""
    y0 = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(cost(lambda t, y: 0.5 * y, y0), torch.full((4,), 2 * 0.25, dtype=torch.float64))
    torch.testing.assert_close(cost(lambda t, y: -y, y0, margin=1.5), torch.full((4,), 2 * 0.25, dtype=torch.float64))
    assert not cost(lambda t, y: -y, y0).any()


def test_a_rotation_costs_nothing():
    turn = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
    assert cost(lambda t, y: y @ turn, torch.randn(50, 2, dtype=torch.float64)).max() < 1e-25


def test_the_rate_lies_below_the_logarithmic_norm_and_comes_near_it():
    matrix = torch.randn(2, 2, dtype=torch.float64)
    largest = float(torch.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-1]) + 5.0
    found = (cost(lambda t, y: y @ matrix.T, torch.zeros(2000, 2, dtype=torch.float64), margin=5.0) / 2).sqrt()
    assert largest * 0.999 < float(found.max()) <= largest + 1e-12


def test_its_gradient_is_that_of_every_rule():
    grads = []
    for rule in (Direct(), Checkpoint()):
        torch.manual_seed(0)
        field, y0 = MLP(2, hidden=8).double(), torch.randn(5, 2, dtype=torch.float64)
        with keyed(KEY):
            solution = solve(
                ODETerm(field), y0, [0.0, 0.5, 1.0], solver=RK4(), gradient=rule, costs=[Expansion(margin=1.0)]
            )
        grads.append(torch.autograd.grad(solution.costs["Expansion"].sum(), list(field.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_what_pays_for_it_brings_trajectories_together():
    torch.manual_seed(0)
    field = MLP(2, hidden=16).double()
    optimiser = torch.optim.Adam(field.parameters(), lr=1e-2)
    y0 = torch.randn(64, 2, dtype=torch.float64)

    def apart():
        with torch.no_grad():
            near, far = (solve(ODETerm(field), y, GRID, solver=RK4()).y1 for y in (y0, y0 + 1e-4))
        return float((far - near).norm(dim=1).mean() / 1e-4 / 2**0.5)

    before = apart()
    for step in range(150):
        optimiser.zero_grad()
        with keyed(Key(seed=0, step=step)):
            solution = solve(ODETerm(field), y0, GRID, solver=RK4(), costs=[Expansion(margin=1.5)])
        solution.costs["Expansion"].mean().backward()
        optimiser.step()
    assert apart() < before / 3


def test_its_margin_is_a_number():
    with pytest.raises(ValueError, match="finite"):
        Expansion(margin=float("nan"))


def test_the_host_finds_it():
    assert manager.load().find("deqlight_costs", "Expansion") is Expansion
