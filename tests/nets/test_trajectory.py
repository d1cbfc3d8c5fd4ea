"""A network that is read along the way."""

import pickle
from functools import partial

import pytest
import torch
from torch import nn

from deqlight import ODETerm, record, solve
from deqlight.controllers import PID, Constant
from deqlight.data import oscillation
from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP, ConcatConv, SecondOrder
from deqlight.gradients import Direct, Reversible
from deqlight.nets import Augment, ConvStem, Split, Trajectory, WithVelocity
from deqlight.policies import Freeze
from deqlight.solvers import RK4, Dopri5, Euler, ReversiblePair

SMALL = partial(MLP, hidden=8)
OSCILLATING = partial(SecondOrder, acceleration=partial(MLP, depth=0, time=False))
OMEGA, ZETA = 2.0, 0.15
TIGHT = PID(1e-10, 1e-10)
REACHED = 1e-8  # what a solve to 1e-10 reaches over two periods
POLYNOMIALS = 1e-4  # dense output of Dopri5 where the steps are good to 1e-6


def oscillator(channels=1, **options):
    """q'' = −ω² q − 2 ζ ω q', exactly: weights put in by hand."""
    net = Trajectory(
        OSCILLATING, channels, **{"solver": Dopri5(), "controller": TIGHT, "lift": WithVelocity(), **options}
    )
    (layer,) = net.stage.term.field.acceleration.layers
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [-(OMEGA**2), -2 * ZETA * OMEGA]]))
        layer.bias.zero_()
    return net


def test_it_is_the_solution_at_the_times_asked_for(double):
    net, x, ts = Trajectory(SMALL, 3, solver=RK4()), torch.randn(5, 3), torch.tensor([0.0, 0.3, 0.5, 1.0])
    assert torch.equal(net(x, ts), solve(ODETerm(net.stage.term.field), x, ts, solver=RK4()).ys)


def test_a_second_order_equation_gives_the_closed_form(double):
    velocity = nn.Linear(1, 1)
    net, q0, ts = oscillator(lift=WithVelocity(velocity)), torch.linspace(-1, 1, 4)[:, None], torch.linspace(0, 6, 13)
    q, _ = oscillation(ts, q0, velocity(q0), OMEGA, ZETA)  # (batch, time)
    assert torch.allclose(net(q0, ts), q.T[..., None], atol=REACHED)


def test_a_pair_that_is_given_whole_comes_back_whole(double):
    net, start, ts = oscillator(channels=2, lift=Split()), torch.randn(4, 2), torch.linspace(0, 6, 13)
    expected = torch.stack(oscillation(ts, start[:, :1], start[:, 1:], OMEGA, ZETA), 2)  # (batch, time, 2)
    assert torch.allclose(net(start, ts), expected.transpose(0, 1), atol=REACHED)


def test_each_sample_has_times_of_its_own(double):
    net, q0 = oscillator(), torch.randn(3, 1)
    ts = torch.cumsum(torch.rand(5, 3) + 0.1, 0)
    together = net(q0, ts)
    assert together.shape == (5, 3, 1)
    for i in range(3):
        alone = net(q0[i : i + 1], ts[:, i])
        assert torch.equal(together[:, i : i + 1], alone)


def test_dense_output_needs_fewer_evaluations(double):
    q0, ts, found, costs = torch.randn(3, 1), torch.linspace(0, 6, 121), [], []
    for dense in (False, True):
        net = oscillator(dense=dense, controller=PID(1e-6, 1e-6))
        with record() as solves:
            found.append(net(q0, ts))
        costs.append(solves[0].nfe)
    assert bool((costs[0] >= 120 * 6).all())  # a step of six from each time to the next
    assert bool((costs[1] < costs[0] / 2).all())
    assert torch.allclose(*found, atol=POLYNOMIALS)


def test_the_head_reads_each_time_alike():
    head = nn.Linear(2, 4)
    net, x, ts = Trajectory(SMALL, 2, solver=RK4(), head=head, lift=Augment(1)), torch.randn(5, 2), torch.arange(4.0)
    bare = Trajectory(SMALL, 2, solver=RK4(), lift=Augment(1))
    bare.stage = net.stage
    assert net(x, ts).shape == (4, 5, 4)
    assert torch.allclose(net(x, ts), head(bare(x, ts)), atol=1e-6)  # float32, in another order


def test_images_too():
    net = Trajectory(ConcatConv, 4, solver=Dopri5(), controller=PID(1e-2, 1e-2), stem=ConvStem(1, 4))
    assert net(torch.rand(3, 1, 6, 6), torch.tensor([0.0, 1.0])).shape == (2, 3, 4, 6, 6)


@pytest.mark.parametrize(
    "options",
    [
        {"solver": Dopri5(), "controller": PID(1e-3, 1e-3)},
        {"solver": Dopri5(), "controller": PID(1e-3, 1e-3), "dense": True},
        {"solver": RK4(), "controller": Constant(steps=2)},
        {"solver": ReversiblePair(RK4()), "gradient": Reversible()},
    ],
    ids=["measured", "dense", "fixed", "reversible"],
)
def test_every_parameter_gets_a_gradient(options):
    field = partial(SecondOrder, acceleration=SMALL)
    net = Trajectory(
        field, 2, lift=WithVelocity(nn.Linear(2, 2)), stem=nn.Linear(3, 2), head=nn.Linear(2, 1), **options
    )
    net(torch.randn(4, 3), torch.linspace(0, 1, 5)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


def test_a_sample_that_fails_is_nan_and_the_others_go_on(double):
    class Explosive(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, t, y):
            return torch.where(y > 1, y * torch.nan, -y)

    net = Trajectory(Explosive, 1, solver=Dopri5(), controller=PID(1e-6, 1e-6), on_failure=Freeze())
    course = net(torch.tensor([[0.5], [2.0]]), torch.tensor([0.0, 1.0]))
    assert course[-1].isnan().flatten().tolist() == [False, True]


def test_it_can_be_copied(double):
    net, x, ts = oscillator(lift=WithVelocity(nn.Linear(1, 1))), torch.randn(3, 1), torch.tensor([0.0, 0.5])
    assert torch.equal(pickle.loads(pickle.dumps(net))(x, ts), net(x, ts))


def test_what_cannot_be():
    with pytest.raises(InputError, match="PID got the solver Euler, which has no error estimate"):
        Trajectory(SMALL, 2, solver=Euler(), controller=PID(1e-3, 1e-3))
    with pytest.raises(InputError, match="has no unstep"):
        Trajectory(SMALL, 2, solver=RK4(), gradient=Reversible())
    assert Trajectory(SMALL, 2, solver=RK4()).gradient == Direct()
    with pytest.raises(ShapeError, match=r"a stage of 2 channels got features of shape \(4, 3\)"):
        Trajectory(SMALL, 2, solver=RK4())(torch.rand(4, 3), torch.tensor([0.0, 1.0]))
