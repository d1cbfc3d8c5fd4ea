"""What fails on one rank is NaN in everybody's gradients; what does not fail leaves them as they are."""

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

from deqlight.callbacks.carried import carries, constant, marked

QUIET = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False}


def gradients(make, values):
    x = torch.tensor(values, requires_grad=True)
    output = make(x.square().sum())
    (output["loss"] if isinstance(output, dict) else output).backward()
    return x.grad


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: {"loss": loss}], ids=["tensor", "mapping"])
def test_a_finite_loss_has_its_own_gradient_to_the_last_bit(wrap):
    plain = gradients(lambda loss: loss, [0.1, -3.0, 0.0])
    assert torch.equal(gradients(lambda loss: marked(wrap(loss)), [0.1, -3.0, 0.0]), plain)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_makes_all_of_it_nan(bad):
    assert gradients(lambda loss: loss + bad, [1.0, 2.0]).isfinite().all()  # alone it would not show
    assert gradients(lambda loss: marked(loss + bad), [1.0, 2.0]).isnan().all()


def test_an_output_without_a_loss_is_left_alone():
    assert marked(None) is None and marked({}) == {}


@pytest.mark.parametrize("times", [0.0, math.nan])
def test_what_takes_the_place_of_a_loss(times):
    net = nn.ModuleList([nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1, dtype=torch.float64)])
    net.register_parameter("wave", nn.Parameter(torch.ones(2, dtype=torch.complex64)))
    constant(net, times).backward()
    for parameter in net.parameters():
        grad = torch.view_as_real(parameter.grad) if parameter.is_complex() else parameter.grad
        assert grad.isnan().all() if math.isnan(times) else (grad == 0).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"strategy": "ddp", "devices": 2}, True),
        ({"strategy": "ddp_find_unused_parameters_true", "devices": 2}, True),
        ({"strategy": "ddp", "devices": 1}, False),
        ({"strategy": DDPStrategy(ddp_comm_hook=fp16_compress_hook), "devices": 2}, False),
    ],
    ids=["alone", "ddp", "unused", "one", "hook"],
)
def test_where_gradients_are_averaged_as_they_are(options, expected):
    assert carries(L.Trainer(**QUIET, **options)) is expected
