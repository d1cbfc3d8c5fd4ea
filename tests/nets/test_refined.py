"""A network at twice, four and eight times its depth, with steps as much shorter, approaches its equation."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rules import EXAMPLES
from torch import nn

from deqlight.controllers import Constant
from deqlight.fields import MLP, ChannelDecay, Symmetric
from deqlight.nets import ContinuousStage, DepthNet, LayeredStage, PartitionedStage, SemilinearStage
from deqlight.solvers import RK4, Dopri8, Euler, Stormer, Yoshida4
from deqlight.terms import Partitioned, Semilinear, Split, Term

LAYERS, WIDTH = 3, 4
FLOOR = 1e-11
"""Errors below are rounding, or the tolerance of inner iterations."""
SHORT = 0.25
"""By how much a slope between two depths may fall short of the order."""


def field(channels):
    """Smooth, and with h · Lip below one half."""
    net = MLP(channels, hidden=8, depth=1)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.6)
    return net


def layered(terms):
    """A stage of layers, each with weights of its own, whose equation is one of these."""
    if Partitioned in terms:
        return PartitionedStage(field, field, 2 * WIDTH, LAYERS)
    if Semilinear in terms or Split in terms:
        return SemilinearStage(ChannelDecay, lambda channels: Symmetric(channels, 0.2, "tanh"), WIDTH, LAYERS)
    return LayeredStage(field, WIDTH, LAYERS)


def output(make, solver, times):
    torch.manual_seed(0)
    net = DepthNet(nn.Identity(), [make()], nn.Identity(), solver=solver, controller=Constant(steps=times)).eval()
    with torch.no_grad():
        stage = net.stages[0]
        shape = (5, stage.channels, 3, 3) if isinstance(stage, SemilinearStage) else (5, stage.channels)
        return net(torch.linspace(-1, 1, math.prod(shape)).reshape(shape))


def check(make, solver, reference, depths):
    """The slope between the deepest networks whose errors are more than rounding."""
    exact = output(make, reference, 64)
    errors = [float((output(make, solver, times) - exact).abs().max()) for times in depths]
    slopes = [math.log(a / b) / math.log(2) for a, b in pairwise(errors) if b > FLOOR]
    assert errors[-1] <= FLOOR or slopes[-1] > solver.info.order - SHORT, (errors, slopes)
    assert errors == sorted(errors, reverse=True) or errors[-1] <= FLOOR


ONE_STEP = [s for s in EXAMPLES if s.info.steps == 1 and s.info.derivative == 1]
SEVERAL = [s for s in EXAMPLES if s.info.steps > 1 and s.info.derivative == 1 and Term in s.info.terms]


@pytest.mark.parametrize("solver", ONE_STEP, ids=repr)
def test_one_step_methods_at_their_order(solver, double):
    """With weights that are constant over a layer, another for each: no step sees two layers."""
    terms = solver.info.terms
    reference = Yoshida4() if Partitioned in terms else RK4() if solver.info.order < 4 else Dopri8()
    check(lambda: layered(terms), solver, reference, (1, 2, 4, 8))


@pytest.mark.parametrize("solver", SEVERAL, ids=repr)
def test_methods_that_remember_at_theirs(solver, double):
    """With the same weights at all depths, which leave what they remember good for the next step."""
    check(lambda: ContinuousStage(field, WIDTH, 2.0), solver, Dopri8(), (8, 16, 32, 64))


def test_second_order_networks_at_theirs(double):
    """From rest, with the same weights; the reference is the same method, far deeper, extrapolated."""

    def make():
        return ContinuousStage(field, WIDTH, 2.0)

    fine, finer = output(make, Stormer(), 512), output(make, Stormer(), 1024)
    exact = finer + (finer - fine) / 3
    errors = [float((output(make, Stormer(), times) - exact).abs().max()) for times in (8, 16, 32)]
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([2.0, 2.0], abs=SHORT)


def test_a_wrong_order_would_be_seen(double):
    class Boasting(Euler):
        info = replace(Euler.info, order=2)

    with pytest.raises(AssertionError):
        check(lambda: layered(()), Boasting(), RK4(), (1, 2, 4, 8))
