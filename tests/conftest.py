"""Numerics are judged in float64 on one CPU thread; every test has the same random numbers."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def ball(double):
    from balls import Ball

    return Ball()


@pytest.fixture
def h(double):
    """Heights that balls fall from."""
    return torch.tensor([1.0, 5.0, 20.0], requires_grad=True)
