"""Between features and state: augmented and second-order networks."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from deqlight.controllers import PID, Constant
from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP, ConcatConv, GroupNorm2d, PreActivation, SecondOrder
from deqlight.gradients import Direct, Reversible
from deqlight.nets import Augment, ContinuousStage, DepthNet, Identity, LayeredStage, Split, WithVelocity
from deqlight.solvers import RK4, Dopri5, Euler, Midpoint, ReversiblePair
from deqlight.states import leaves

SMALL = partial(MLP, hidden=8)
REPLAYED = 1e-10  # float64: a gradient through the inverse of four steps of a wrapped method


def network(stage, solver=Dopri5(), controller=Constant(steps=4), **options):  # noqa: B008  read only
    return DepthNet(nn.Identity(), [stage], nn.Identity(), solver=solver, controller=controller, **options)


LIFTS = [Identity(), Split(), Augment(3), Augment(0), WithVelocity(), WithVelocity(nn.Conv2d(4, 4, 1))]


@pytest.mark.parametrize("lift", LIFTS, ids=lambda lift: type(lift).__name__)
def test_what_is_lifted_comes_down_again(lift):
    x = torch.randn(5, 4, 3, 3)
    state = lift.lift(x)
    assert torch.equal(lift.lower(state), x)
    assert {leaf.shape for leaf in leaves(state)} == {(5, lift.width(4), 3, 3)}


def test_new_channels_are_zeros():
    x = torch.randn(5, 2)
    assert torch.equal(Augment(3).lift(x)[:, 2:], torch.zeros(5, 3))


def test_velocities_start_at_rest_or_are_learnt():
    x, learnt = torch.randn(5, 2), nn.Linear(2, 2)
    assert torch.equal(WithVelocity().lift(x)[1], torch.zeros(5, 2))
    assert torch.equal(WithVelocity(learnt).lift(x)[1], learnt(x))


@pytest.mark.parametrize("controller", [Constant(steps=4), PID(1e-4, 1e-4)], ids=repr)
def test_no_new_channels_are_the_plain_network_bit_by_bit(controller):
    x, results = torch.randn(6, 2), []
    for lift in (None, Identity(), Augment(0)):
        torch.manual_seed(1)
        net = network(ContinuousStage(SMALL, 2, lift=lift), controller=controller)
        y = net(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in net.parameters())])
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_an_augmented_network_of_layers_is_a_loop_on_padded_features():
    block = partial(PreActivation, norm=GroupNorm2d)
    stage, x = LayeredStage(block, 4, 3, lift=Augment(2)), torch.randn(2, 4, 5, 5)
    u = torch.cat([x, torch.zeros(2, 2, 5, 5)], 1)
    for layer in stage.term.layers:
        u = u + layer.field(0.0, u)
    assert torch.equal(network(stage, Euler(), None)(x), u[:, :4])


def test_a_second_order_network_of_layers_is_a_loop_of_pairs():
    stage, x = LayeredStage(partial(SecondOrder, acceleration=SMALL), 2, 3, lift=WithVelocity()), torch.randn(4, 2)
    q, v = x, torch.zeros_like(x)
    for n, layer in enumerate(stage.term.layers):
        dq, dv = layer.field(float(n), (q, v))
        q, v = q + dq, v + dv
    assert torch.equal(network(stage, Euler(), None)(x), q)


@pytest.mark.parametrize(
    ("field", "lift"),
    [
        (ConcatConv, Augment(2)),
        (partial(SecondOrder, acceleration=ConcatConv), WithVelocity(nn.Conv2d(4, 4, 1))),
        (partial(SecondOrder, acceleration=ConcatConv), Split()),
    ],
    ids=["augmented", "second order", "split"],
)
def test_images_are_lifted_too(field, lift):
    net, x = network(ContinuousStage(field, 4, lift=lift), controller=PID(1e-2, 1e-2)), torch.randn(3, 4, 6, 6)
    y = net(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize(
    "stage",
    [
        lambda: ContinuousStage(SMALL, 2, lift=Augment(2)),
        lambda: ContinuousStage(partial(SecondOrder, acceleration=SMALL), 2, lift=WithVelocity(nn.Linear(2, 2))),
    ],
    ids=["augmented", "second order"],
)
def test_gradients_reach_the_start_by_every_rule(double, stage):
    x, found = torch.randn(3, 2), []
    for gradient in (Direct(), Reversible()):
        torch.manual_seed(2)
        net = network(stage(), ReversiblePair(Midpoint()), gradient=gradient)
        inputs = x.clone().requires_grad_()
        net(inputs).square().sum().backward()
        found.append([inputs.grad, *(p.grad for p in net.parameters())])
    assert all(torch.allclose(a, b, rtol=REPLAYED, atol=REPLAYED) for a, b in zip(*found, strict=True))
    assert all(bool(grad.abs().sum() > 0) for grad in found[0])


def test_a_learnt_velocity_belongs_to_the_network():
    net = network(ContinuousStage(partial(SecondOrder, acceleration=SMALL), 2, lift=WithVelocity(nn.Linear(2, 2))))
    assert {"stages.0.lift.velocity.weight", "stages.0.lift.velocity.bias"} <= dict(net.named_parameters()).keys()
    twin, x = copy.deepcopy(net), torch.randn(3, 2)
    with torch.no_grad():
        twin.stages[0].lift.velocity.bias += 1.0
    assert not torch.equal(net(x), twin(x))
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))


def test_what_cannot_be():
    with pytest.raises(InputError, match="channels=-1; it must be at least 0"):
        Augment(-1)
    with pytest.raises(InputError, match="Split got 3 channels"):
        ContinuousStage(partial(SecondOrder, acceleration=SMALL), 3, lift=Split())
    with pytest.raises(ShapeError, match=r"features of shape \(4, 2\) and velocities of shape \(4, 1\)"):
        WithVelocity(nn.Linear(2, 1)).lift(torch.rand(4, 2))
    with pytest.raises(ShapeError, match=r"a stage of 2 channels got features of shape \(4, 3\)"):
        network(ContinuousStage(SMALL, 2, lift=Augment(1)), RK4())(torch.rand(4, 3))
