"""x ↦ −x: no neural ODE in one dimension is this map, and an augmented one learns it.

Trajectories of du/dt = f(t, u) do not cross, so in one dimension the map g from start to end increases. Then
Cov(g(x), x) >= 0 (Chebyshev's sum inequality), and on any points the mean squared error of g against −x is
E(g + x − E(g + x))² + (E(g + x))² >= Var g + 2 Cov(g, x) + Var x >= Var x: what the best constant reaches.
"""

from functools import partial

import pytest
import torch
from torch import nn

from deqlight.controllers import PID
from deqlight.fields import MLP
from deqlight.nets import Augment, ContinuousStage, DepthNet
from deqlight.solvers import Dopri5, Euler

TIGHT = PID(1e-8, 1e-8)
TOLD_APART = 1e-6  # a solve to 1e-8 may turn over the order of points that end closer than this
LEARNT = 1e-3  # the mean squared error an augmented network gets below in 150 steps; a plain one has 1/3 for ever
CLOSE = 0.05  # how close to its bound a plain one comes, relatively
POINTS = torch.linspace(-1.0, 1.0, 65, dtype=torch.float64)[:, None]
VARIANCE = POINTS.var(correction=0).item()


QUICK = PID(1e-4, 1e-4, norm="joint")


def network(new_channels, controller=QUICK):
    stage = ContinuousStage(partial(MLP, hidden=16, depth=1), 1, lift=Augment(new_channels))
    return DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Dopri5(), controller=controller)


def error(net):
    return (net(POINTS) + POINTS).square().mean()


def trained(net, steps):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = error(net)
        loss.backward()
        optimizer.step()
    return loss.item()


def assert_bound(net):
    """The learnt map increases, and its error is at least the variance."""
    with torch.no_grad():
        image = net(POINTS)
    assert bool((image.diff(dim=0) > -TOLD_APART).all())
    assert (image + POINTS).square().mean() > VARIANCE - 4 * TOLD_APART


@pytest.mark.parametrize("seed", range(4))
def test_no_plain_network_gets_below_the_variance_whatever_its_weights(double, seed):
    torch.manual_seed(seed)
    net = network(0, TIGHT)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0)
    assert (net(POINTS) - POINTS).abs().max() > 0.5  # it moves them, and far
    assert_bound(net)


def test_training_brings_a_plain_network_to_the_bound_and_no_further(double):
    net = network(0)
    assert VARIANCE - 1e-3 < trained(net, 60) < (1 + CLOSE) * VARIANCE
    net.controller = TIGHT
    assert_bound(net)


def test_one_more_channel_is_enough(double):
    net = network(1)
    assert trained(net, 150) < LEARNT
    with torch.no_grad():
        assert bool((net(POINTS).diff(dim=0) < 0).all())  # the order is turned over


def test_a_residual_network_may_cross(double):
    """The bound is that of the equation: a step too long for it, Euler's on du/dt = −2 u, is the map itself."""
    stage = ContinuousStage(partial(MLP, depth=0, time=False), 1)
    net = DepthNet(nn.Identity(), [stage], nn.Identity(), solver=Euler())
    (layer,) = stage.term.field.layers
    with torch.no_grad():
        layer.weight.fill_(-2.0)
        layer.bias.zero_()
    assert torch.equal(net(POINTS), -POINTS)
