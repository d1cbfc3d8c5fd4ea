"""A damped oscillator from its positions alone: second-order networks find the equation, first-order ones cannot.

With q'(0) a multiple of q(0), positions are q(t) = φ(t) q(0), and where φ < 0 their order is turned over. A first-order
equation for q keeps the order: its map g at such a time increases, so that Cov(g, q(0)) >= 0, and the mean squared
error against φ q(0) is at least Var g − 2 φ Cov(g, q(0)) + φ² Var q(0) >= φ² Var q(0).
"""

from functools import partial

import pytest
import torch
from torch import nn

from deqlight.controllers import PID, Constant
from deqlight.data import oscillation
from deqlight.fields import MLP, SecondOrder
from deqlight.nets import Trajectory, WithVelocity
from deqlight.solvers import RK4, Dopri5

OMEGA, ZETA, KICK = 1.0, 0.1, 0.5
HORIZON = 6.0  # about a period
TOLD_APART = 1e-6  # a solve to 1e-8 may turn over the order of courses that come closer than this
FOUND = 1e-3  # RK4 with steps of 1/4 is good to 1e-4 over the horizon, and so is what is learnt through it
BEYOND = 5e-3  # the same, three times as far


def courses(starts, ts):
    """The truth, `(time, batch, 1)`."""
    q, _ = oscillation(ts, starts, KICK * starts, OMEGA, ZETA)
    return q.T[..., None]


def fitted(net, starts, ts):
    """By a quasi-Newton method, which needs few steps where there are few parameters."""
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-12)
    target = courses(starts, ts)

    def closure():
        optimizer.zero_grad()
        loss = (net(starts, ts) - target).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return net


@pytest.fixture
def learnt(double):
    """A linear second-order network, trained on six courses."""
    field = partial(SecondOrder, acceleration=partial(MLP, depth=0, time=False))
    net = Trajectory(field, 1, solver=RK4(), lift=WithVelocity(nn.Linear(1, 1)))
    return fitted(net, torch.linspace(-1.5, 1.4, 6)[:, None], torch.linspace(0, HORIZON, 25))


def test_it_finds_the_equation_and_the_velocity_that_was_not_observed(learnt):
    (layer,) = learnt.stage.term.field.acceleration.layers
    assert torch.allclose(layer.weight[1], torch.tensor([-(OMEGA**2), -2 * ZETA * OMEGA]), atol=FOUND)
    velocity = learnt.stage.lift.velocity
    assert torch.allclose(velocity.weight, torch.tensor([[KICK]]), atol=FOUND)
    assert layer.bias[1].abs() < FOUND and velocity.bias.abs() < FOUND


def test_it_forecasts_other_courses_and_later_times(learnt):
    starts, ts = torch.tensor([[-2.0], [-0.7], [0.1], [1.9]]), torch.linspace(0, 3 * HORIZON, 73)
    with torch.no_grad():
        found, truth = learnt(starts, ts), courses(starts, ts)
    assert (found - truth)[:25].abs().max() < FOUND
    assert (found - truth).abs().max() < BEYOND


def test_what_is_learnt_by_one_method_runs_by_another(learnt):
    starts, ts = torch.tensor([[-0.7], [1.9]]), torch.linspace(0, HORIZON, 13)
    learnt.solver, learnt.controller = Dopri5(), PID(1e-8, 1e-8)
    with torch.no_grad():
        assert (learnt(starts, ts) - courses(starts, ts)).abs().max() < FOUND


@pytest.mark.parametrize("seed", range(3))
def test_no_first_order_network_has_these_courses_whatever_its_weights(double, seed):
    torch.manual_seed(seed)
    net = Trajectory(partial(MLP, hidden=16, depth=1), 1, solver=Dopri5(), controller=PID(1e-8, 1e-8))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    assert_bound(net)


def test_training_does_not_help_a_first_order_network(double):
    starts, ts = torch.linspace(-1.5, 1.5, 9)[:, None], torch.linspace(0, HORIZON, 13)
    net = Trajectory(partial(MLP, hidden=8, depth=1), 1, solver=RK4(), controller=Constant(dt=0.25))
    fitted(net, starts, ts)
    net.solver, net.controller = Dopri5(), PID(1e-8, 1e-8)
    assert_bound(net)


def assert_bound(net):
    """The order of positions is kept at all times, and the error at least what that costs."""
    starts, ts = torch.linspace(-1.5, 1.5, 31)[:, None], torch.linspace(0, HORIZON, 25)
    with torch.no_grad():
        found, truth = net(starts, ts), courses(starts, ts)
    assert bool((found.diff(dim=1) > -TOLD_APART).all())
    spread = truth.var(1, correction=0)[:, 0]  # φ² Var q(0), at each time
    turned = truth[:, -1, 0] < 0
    bound = spread[turned].sum() / len(ts)
    assert bound > 0.05
    assert (found - truth).square().mean() > bound - 10 * TOLD_APART
