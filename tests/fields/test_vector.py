"""Fields on vectors, and on pairs of positions and velocities."""

from functools import partial

import pytest
import torch
from torch import nn

from deqlight.errors import InputError, ShapeError
from deqlight.fields import MLP, ConcatConv, SecondOrder

ROUNDING = 1e-12  # of float64, where sums run in another order


def test_time_is_an_input(double):
    field, y = MLP(3, hidden=8), torch.randn(4, 3)
    early, late = field(0.0, y), field(1.0, y)
    assert early.shape == y.shape
    assert not torch.allclose(early, late)
    own = field(torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1), y)
    assert torch.allclose(own, torch.stack([early[0], late[1], late[2], early[3]]), atol=ROUNDING)
    assert torch.allclose(field(torch.tensor(1.0), y), late, atol=ROUNDING)  # a time that needs a gradient


def test_an_autonomous_field_does_not_depend_on_time():
    field, y = MLP(3, time=False), torch.randn(4, 3)
    assert torch.equal(field(0.0, y), field(torch.ones(4, 1), y))
    assert sum(p.numel() for p in MLP(3).parameters()) - sum(p.numel() for p in field.parameters()) == 64


def test_without_hidden_layers_it_is_linear(double):
    field, x, y = MLP(3, depth=0, time=False), torch.randn(4, 3), torch.randn(4, 3)
    constant = field(0.0, torch.zeros(4, 3))
    assert torch.allclose(field(0.0, x + y), field(0.0, x) + field(0.0, y) - constant, atol=ROUNDING)


def test_the_layers_are_those_asked_for():
    field = MLP(2, hidden=5, depth=3, activation=nn.SiLU)
    widths = [(layer.in_features, layer.out_features) for layer in field.modules() if isinstance(layer, nn.Linear)]
    assert widths == [(3, 5), (5, 5), (5, 5), (5, 2)]
    assert sum(isinstance(layer, nn.SiLU) for layer in field.modules()) == 3


def test_what_cannot_be():
    with pytest.raises(InputError, match="depth=-1"):
        MLP(2, depth=-1)
    with pytest.raises(InputError, match="hidden=0"):
        MLP(2, hidden=0)
    with pytest.raises(InputError, match="0 out"):
        MLP(0)
    x = torch.rand(4, 2)
    for state in (torch.rand(4, 3), x[..., None], (x, x)):
        with pytest.raises(ShapeError, match=r"it needs vectors, \(batch, 2\)"):
            MLP(2)(0.0, state)


@pytest.mark.parametrize(("inner", "shape"), [(MLP, (4, 3)), (ConcatConv, (4, 3, 6, 6))], ids=["vectors", "images"])
def test_any_field_gives_the_acceleration(double, inner, shape):
    field, q, v = SecondOrder(3, inner), torch.randn(shape), torch.randn(shape)
    for t in (0.3, torch.full((4, *[1] * (len(shape) - 1)), 0.3)):
        dq, dv = field(t, (q, v))
        assert torch.equal(dq, v)
        assert torch.equal(dv, field.acceleration(t, torch.cat([q, v], 1))[:, 3:])


def test_a_single_tensor_is_no_pair():
    field = SecondOrder(3, partial(MLP, hidden=4))
    with pytest.raises(ShapeError, match=r"a state of 1 tensors; it needs a pair.*WithVelocity or Split"):
        field(0.0, torch.rand(4, 6))
