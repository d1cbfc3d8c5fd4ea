import pytest
import torch

from deqlight.errors import InputError
from deqlight.fields import MLP, AdditiveDiffusion, MatrixDiffusion, MultiplicativeDiffusion


def test_additive_and_multiplicative(double):
    y = torch.randn(3, 4, 2, 2)
    assert torch.allclose(AdditiveDiffusion(4, sigma=0.3)(0.0, y), torch.full_like(y, 0.3), atol=1e-12)
    assert torch.allclose(MultiplicativeDiffusion(4, sigma=0.3)(0.0, y), 0.3 * y, atol=1e-12)


@pytest.mark.parametrize("cls", [AdditiveDiffusion, MultiplicativeDiffusion])
def test_sigma_is_learnt_where_it_is_told_to_and_stays_positive(cls):
    assert not any(parameter.requires_grad for parameter in cls(4, 0.3).parameters())
    field = cls(4, sigma=0.01, learn=True)
    optimizer = torch.optim.SGD(field.parameters(), lr=10.0)
    for _ in range(5):
        optimizer.zero_grad()
        field(0.0, torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert 0 < field(0.0, torch.ones(1, 4))[0, 0] < 0.01


def test_a_matrix_has_a_column_for_each_source():
    field = MatrixDiffusion(4, sources=3, block=MLP, scale=0.5)
    y = torch.randn(2, 4)
    assert field(0.5, y).shape == (2, 4, 3)
    assert torch.equal(field(0.5, y)[..., 1], 0.5 * field.columns[1](0.5, y))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_what_cannot_be(sigma):
    for cls in (AdditiveDiffusion, MultiplicativeDiffusion):
        with pytest.raises(InputError, match="sigma"):
            cls(4, sigma)
    with pytest.raises(InputError, match="scale"):
        MatrixDiffusion(4, 2, MLP, sigma)
    with pytest.raises(InputError, match="sources=0"):
        MatrixDiffusion(4, 0, MLP)
