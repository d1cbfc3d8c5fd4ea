"""Costs of linear equations are known; every gradient rule gives theirs; the solution is what it was without."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deqlight import Layered, ODETerm, Partitioned, SDETerm, solve
from deqlight.brownian import Key, keyed
from deqlight.controllers import PID, Constant
from deqlight.errors import InputError
from deqlight.fields import MLP
from deqlight.gradients import Backsolve, Checkpoint, Direct, Reversible
from deqlight.policies import Freeze
from deqlight.regularizers import (
    ErrorEstimate,
    JacobianFrobenius,
    Kinetic,
    Smoothness,
    Steer,
    Stiffness,
    Taylor,
)
from deqlight.solution import record
from deqlight.solvers import RK4, Dopri5, Euler, Heun, ReversibleHeun, SymplecticEuler, Tsit5

RATE = -0.7
TIGHT = PID(1e-10, 1e-10)


class Linear(nn.Module):
    """dy/dt = a y."""

    def __init__(self, rate=RATE):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, y):
        return self.rate * y


class Forced(nn.Module):
    """dy/dt = a y + sin t: its derivatives see the time."""

    def forward(self, t, y):
        return RATE * y + torch.sin(torch.as_tensor(t, dtype=y.dtype))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_taylor_of_a_linear_equation(k, double):
    """‖dᵏu/dtᵏ‖² = a²ᵏ e^{2at} ‖u₀‖²."""
    y0 = torch.randn(3, 2)
    solution = solve(ODETerm(Linear()), y0, [0.0, 1.0], solver=Dopri5(), controller=TIGHT, costs=[Taylor(order=k)])
    expected = RATE ** (2 * k) * math.expm1(2 * RATE) / (2 * RATE) * y0.square().sum(1)
    torch.testing.assert_close(solution.costs["Taylor"], expected, rtol=1e-6, atol=0)


@pytest.mark.timeout(60)  # two seconds, where an evaluation costs the same late in the solve as early
def test_taylor_counts_the_time_of_the_field(double):
    """u̇ = a u + sin t has ü = a u̇ + cos t."""
    y0, steps = torch.zeros(1, 1), 2000
    ts = [n / steps for n in range(steps + 1)]
    solution = solve(ODETerm(Forced()), y0, ts, solver=RK4(), costs=[Taylor(order=2)])
    t, u = torch.tensor(ts), solution.ys[:, 0, 0]
    rate = (RATE * (RATE * u + torch.sin(t)) + torch.cos(t)).square()
    assert float(solution.costs["Taylor"]) == pytest.approx(float(torch.trapezoid(rate, t)), rel=1e-6)


def test_kinetic_energy_of_a_linear_equation(double):
    y0 = torch.randn(3, 2)
    solution = solve(ODETerm(Linear()), y0, [0.0, 0.3, 1.0], solver=Dopri5(), controller=TIGHT, costs=[Kinetic()])
    expected = RATE**2 * math.expm1(2 * RATE) / (2 * RATE) * y0.square().sum(1)
    torch.testing.assert_close(solution.costs["Kinetic"], expected, rtol=1e-8, atol=0)
    assert solution.ys.shape == (3, 3, 2)


def test_the_jacobian_of_a_linear_equation(double):
    """∫ ‖εᵀA‖² dt is ‖εᵀA‖² times the length; its mean over many ε is ‖A‖²_F."""
    a = torch.randn(3, 3)
    with keyed(Key(seed=1)), torch.no_grad():
        term = ODETerm(lambda t, y: y @ a.T)
        costs = solve(term, torch.zeros(20_000, 3), [0.0, 2.0], solver=RK4(), costs=[JacobianFrobenius()]).costs
    value = costs["JacobianFrobenius"]
    assert float(value.mean()) == pytest.approx(2 * float(a.square().sum()), abs=5 * float(value.std()) / 20_000**0.5)
    with keyed(Key(seed=1)):
        some = solve(term, torch.zeros(7, 3), [0.0, 2.0], solver=RK4(), costs=[JacobianFrobenius()]).costs
    torch.testing.assert_close(some["JacobianFrobenius"], value[:7])


@pytest.mark.parametrize("cost", [Kinetic(), JacobianFrobenius(), Taylor(order=2)], ids=repr)
@pytest.mark.parametrize(
    ("solver", "gradient"),
    [
        (RK4(), Checkpoint()),
        (RK4(), Checkpoint(budget=3)),
        (ReversibleHeun(), Reversible()),
        (Dopri5(), Backsolve(controller=PID(1e-9, 1e-9, norm="joint"))),
    ],
    ids=repr,
)
def test_every_rule_gives_the_gradient_of_a_cost(cost, solver, gradient, double):
    grads = []
    for rule in (Direct(), gradient):
        torch.manual_seed(0)
        field, y0 = MLP(2, hidden=8, depth=1), torch.randn(3, 2)
        with keyed(Key(seed=2)):
            controller = PID(1e-9, 1e-9, norm="joint") if isinstance(gradient, Backsolve) else Constant(steps=8)
            solution = solve(
                ODETerm(field), y0, [0.0, 1.0], solver=solver, controller=controller, gradient=rule, costs=[cost]
            )
        loss = solution.costs[cost.name].mean() + solution.y1.square().sum()
        grads.append(torch.autograd.grad(loss, list(field.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6 if isinstance(gradient, Backsolve) else 1e-10, atol=1e-9)


@pytest.mark.parametrize("cost", [ErrorEstimate(), Stiffness()], ids=repr)
def test_the_gradient_of_what_steps_cost(cost, double):
    """Against central differences, over given steps."""
    field = MLP(2, hidden=4, depth=1)

    def charge():
        solution = solve(ODETerm(field), torch.ones(2, 2), [0.0, 0.5, 1.0], solver=Dopri5(), costs=[cost])
        return solution.costs[cost.name].sum()

    weight = next(field.parameters())
    (grad,) = torch.autograd.grad(charge(), weight)
    direction, h = torch.randn_like(weight), 1e-5
    with torch.no_grad():
        weight += h * direction
        up = charge()
        weight -= 2 * h * direction
        down = charge()
    assert float((grad * direction).sum()) == pytest.approx(float((up - down) / (2 * h)), rel=1e-4)


def test_stiffness_of_a_linear_equation_is_its_rate(double):
    solution = solve(ODETerm(Linear(-3.0)), torch.ones(2, 1), [0.0, 0.1, 0.2], solver=Tsit5(), costs=[Stiffness()])
    torch.testing.assert_close(solution.costs["Stiffness"], torch.full((2,), 6.0), rtol=1e-9, atol=0)  # two steps


def test_error_estimates_add_up(double):
    """Heun's estimate of u̇ = a u is h²a²u/2, of each step."""
    h, a = 0.1, RATE
    solution = solve(ODETerm(Linear()), torch.ones(1, 1), [0.0, h, 2 * h], solver=Heun(), costs=[ErrorEstimate()])
    after = 1 + h * a + (h * a) ** 2 / 2
    expected = h * (h * a) ** 2 / 2 * (1 + after)
    assert float(solution.costs["ErrorEstimate"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("norm", ["joint", "sample"])
@pytest.mark.parametrize("cost", [Kinetic(), JacobianFrobenius(), ErrorEstimate()], ids=repr)
def test_costs_change_neither_the_solution_nor_the_steps(norm, cost, double):
    field, y0 = MLP(2), torch.randn(5, 2)
    options = {"solver": Dopri5(), "controller": PID(1e-5, 1e-5, norm=norm)}
    plain = solve(ODETerm(field), y0, [0.0, 0.4, 1.0], **options)
    charged = solve(ODETerm(field), y0, [0.0, 0.4, 1.0], **options, costs=[cost])
    assert torch.equal(plain.ys, charged.ys)
    assert torch.equal(plain.stats.accepted, charged.stats.accepted)
    assert torch.equal(plain.stats.nfe, charged.stats.nfe)


def test_no_weight_is_no_cost(double):
    solution = solve(ODETerm(MLP(2)), torch.ones(2, 2), [0.0, 1.0], solver=RK4(), costs=[Kinetic(weight=0.0)])
    assert solution.costs == {}


def test_costs_of_pairs_and_of_times_of_each_sample(double):
    term = ODETerm(lambda t, y: (y[1], -y[0]))  # a circle: ‖f‖² = 1
    solution = solve(term, (torch.ones(2, 1), torch.zeros(2, 1)), [0.0, 1.5], solver=RK4(), costs=[Kinetic()])
    torch.testing.assert_close(solution.costs["Kinetic"], torch.full((2,), 1.5), rtol=0.2, atol=0)
    ragged = solve(
        ODETerm(Linear()),
        torch.ones(2, 1),
        [[0.0, 0.5, 1.0], [0.0, 2.0]],
        solver=Dopri5(),
        controller=TIGHT,
        costs=[Kinetic()],
    )
    expected = [RATE**2 * math.expm1(2 * RATE * t) / (2 * RATE) for t in (1.0, 2.0)]
    torch.testing.assert_close(ragged.costs["Kinetic"], torch.tensor(expected), rtol=1e-8, atol=0)
    assert ragged.ys.shape == (5, 1)


def test_a_frozen_sample_has_no_cost(double):
    term = ODETerm(lambda t, y: torch.where(y > 5, torch.nan, y))
    solution = solve(
        term,
        torch.tensor([[1.0], [4.0]]),
        [0.0, 1.0],
        solver=Dopri5(),
        controller=PID(1e-4, 1e-4),
        on_failure=Freeze(),
        costs=[Kinetic()],
    )
    assert solution.costs["Kinetic"].isnan().tolist() == [False, True]


def test_weights_smooth_in_depth(double):
    layers = [Linear(rate) for rate in (1.0, 1.5, 0.5)]
    solution = solve(Layered(layers), torch.ones(3, 1), range(4), solver=Euler(), costs=[Smoothness()])
    torch.testing.assert_close(solution.costs["Smoothness"], torch.full((3,), 0.5 * (0.25 + 1.0)))
    solution.costs["Smoothness"].mean().backward()
    assert [float(layer.rate.grad) for layer in layers] == [-0.5, 1.5, -1.0]


def test_steer_ends_at_random_and_is_off_in_evaluation(double):
    term = Steer(width=0.5).wrap(ODETerm(Linear()))
    ends = []
    for step in range(400):
        with keyed(Key(0, step)), torch.no_grad():
            y1 = solve(term, torch.ones(2, 1), [0.0, 1.0], solver=Dopri5(), controller=TIGHT).y1
        assert float(y1[0]) == float(y1[1])
        ends.append(math.log(float(y1[0])) / RATE)
    found = torch.tensor(ends)
    assert 0.5 <= float(found.min()) < 0.52
    assert 1.48 < float(found.max()) <= 1.5
    assert float(found.mean()) == pytest.approx(1.0, abs=5 * (1 / 12 / 400) ** 0.5)
    plain = solve(ODETerm(Linear()), torch.ones(2, 1), [0.0, 1.0], solver=RK4()).y1
    assert torch.equal(solve(term.eval(), torch.ones(2, 1), [0.0, 1.0], solver=RK4()).y1, plain)


def test_steer_sees_the_time_of_the_field(double):
    term = Steer(width=0.5).wrap(ODETerm(Forced()))
    with keyed(Key(0, 3)):
        y1 = solve(term, torch.ones(1, 1), [0.0, 1.0], solver=Dopri5(), controller=TIGHT).y1
    with keyed(Key(0, 3)):
        end = (
            1.0
            * solve(
                Steer(width=0.5).wrap(ODETerm(lambda t, y: y / y)), torch.zeros(1, 1) + 1, [0.0, 1.0], solver=RK4()
            ).y1
            - 1
        )
    there = solve(ODETerm(Forced()), torch.ones(1, 1), [0.0, float(end)], solver=Dopri5(), controller=TIGHT).y1
    torch.testing.assert_close(y1, there, rtol=1e-8, atol=0)


def test_recorded_solves_tell_their_costs(double):
    with record() as solves:
        solve(ODETerm(Linear()), torch.ones(2, 1), [0.0, 1.0], solver=RK4(), costs=[Kinetic(weight=0.5)])
    (charge,) = solves[0].costs
    assert (charge.name, charge.weight, charge.value.shape) == ("Kinetic", 0.5, (2,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"costs": [Kinetic(), Kinetic(weight=2.0)]}, "twice"),
        ({"costs": ["kinetic"]}, "RunningCost"),
        ({"costs": [ErrorEstimate()], "solver": RK4()}, "estimates no error"),
        ({"costs": [Stiffness()], "solver": Heun()}, "Dopri5, Tsit5"),
        ({"costs": [ErrorEstimate()], "gradient": Checkpoint()}, "use Direct"),
        ({"costs": [ErrorEstimate()], "on_failure": Freeze()}, "Raise"),
        ({"costs": [Smoothness()]}, "Layered"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words, double):
    with pytest.raises(InputError, match=words):
        solve(ODETerm(Linear()), torch.ones(2, 1), [0.0, 1.0], **{"solver": Dopri5(), **options})


def test_costs_need_any_term_and_no_noise(double):
    halves = Partitioned(lambda t, p: p, lambda t, q: -q)
    with pytest.raises(InputError, match="any term"):
        solve(halves, (torch.ones(1, 1),) * 2, [0.0, 1.0], solver=SymplecticEuler(), costs=[Kinetic()])
    noisy = SDETerm(Linear(), lambda t, y: 0.1 * y, noise="diagonal", calculus="ito")
    with pytest.raises(InputError, match="stochastic"):
        solve(noisy, torch.ones(1, 1), [0.0, 1.0], solver=Euler(), costs=[Kinetic()])
    for make in (lambda: Kinetic(weight=-1.0), lambda: Taylor(order=0), lambda: Steer(width=-1.0)):
        with pytest.raises(InputError, match="at least"):
            make()
    with pytest.raises(InputError, match="ODETerm"):
        Steer().wrap(Layered([Linear()]))
    with pytest.raises(InputError, match="shorter"):
        solve(Steer(width=2.0).wrap(ODETerm(Linear())), torch.ones(1, 1), [0.0, 1.0], solver=RK4())
