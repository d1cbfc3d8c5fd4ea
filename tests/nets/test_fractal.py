"""Fractal networks: the recursion written out, drop-path as published, and what draws are a function of."""

import pytest
import torch
from torch import nn

from deqlight.brownian import Key, keyed
from deqlight.errors import InputError
from deqlight.nets import Chain, ConvStem, FractalBlock, PlainHead


def made(columns=3, **options):
    torch.manual_seed(0)
    return FractalBlock(4, 6, columns, norm=lambda n: nn.GroupNorm(1, n), **options).double()


def column(block, c, x):
    """What one column alone makes."""
    for conv in block.convs[2**c - 1 : 2 ** (c + 1) - 1]:
        x = conv(x)
    return x


@pytest.fixture
def x():
    return torch.randn(5, 4, 6, 6, dtype=torch.float64)


def test_two_columns_are_the_mean_of_one_and_two_convolutions(x):
    block = made(2).eval()
    assert torch.allclose(block(x), (column(block, 0, x) + column(block, 1, x)) / 2, rtol=1e-12)


def test_four_columns_are_the_recursion(x):
    """f_C of f_C, and the convolution of the new column, each with convolutions of its own; joins that meet are one."""
    block = made(4).eval()

    def fractal(c, start, x):
        """The inputs of the join that f_{c+1} ends in; `start` counts the convolutions of each column before it."""
        deep = 3 - c  # the column that this level adds
        own = block.convs[2**deep - 1 + start[deep]](x)
        start[deep] += 1
        if c == 0:
            return [own]
        middle = torch.stack(fractal(c - 1, start, x)).mean(0)
        return [*fractal(c - 1, start, middle), own]

    assert torch.allclose(block(x), torch.stack(fractal(3, [0] * 4, x)).mean(0), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_it_has_a_convolution_less_than_two_to_the_columns(columns):
    """And their parameters: the first of each column changes the width."""
    block, count = FractalBlock(8, 16, columns), 2**columns - 1
    weights = 9 * (columns * 8 * 16 + (count - columns) * 16 * 16)
    assert sum(p.numel() for p in block.parameters()) == weights + count * 2 * 16


def test_globally_each_sample_sees_one_column_alone(x):
    block = made(3, alone=1.0).train()
    alone = torch.stack([column(block, c, x) for c in range(3)])  # (column, batch, …)
    seen = set()
    for step in range(20):
        with keyed(Key(0, step)):
            y = block(x)
        near = (y - alone).abs().amax((2, 3, 4)) < 1e-12  # (column, batch)
        assert near.sum(0).tolist() == [1] * 5
        seen |= set(near.long().argmax(0).tolist())
    assert seen == {0, 1, 2}


def test_the_column_is_the_same_in_all_blocks(x):
    """Two blocks in a row: a column of the one goes on in the same of the other."""
    first, second = made(3, alone=1.0).train(), FractalBlock(6, 6, 3, alone=1.0, norm=lambda n: nn.GroupNorm(1, n))
    second = second.double().train()
    with keyed(Key(0, 3)):
        y = second(first(x))
    alone = torch.stack([column(second, c, column(first, c, x)) for c in range(3)])
    assert ((y - alone).abs().amax((2, 3, 4)) < 1e-12).sum(0).tolist() == [1] * 5


def test_locally_joins_drop_inputs_at_the_published_rate_and_never_all():
    """Two columns, so one join: both live with (1 − p)², one alone with the rest, and the mean is of the live ones."""
    block, n, p = made(2, p=0.3, alone=0.0).train(), 4000, 0.3
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64).expand(n, -1, -1, -1)
    with keyed(Key(0)), torch.no_grad():
        y = block(x)
    a, b = (column(block, c, x[:1]) for c in range(2))
    near = torch.stack([(y - wanted).abs().amax((1, 2, 3)) < 1e-12 for wanted in (a, b, (a + b) / 2)], 1)
    assert near.sum(1).tolist() == [1] * n
    both, one = (1 - p) ** 2, (1 - (1 - p) ** 2) / 2
    for share, wanted in zip(near.double().mean(0).tolist(), (one, one, both), strict=True):
        assert abs(share - wanted) < 5 * (wanted * (1 - wanted) / n) ** 0.5


def test_draws_are_those_of_the_samples_whatever_their_batch(x):
    block = made(3).train()
    with keyed(Key(7, 2, torch.tensor([9, 4, 1, 0, 3]))):
        whole = block(x)
    with keyed(Key(7, 2, torch.tensor([1, 9]))):
        part = block(x[[2, 0]])
    assert torch.allclose(whole[[2, 0]], part, rtol=1e-12)
    with keyed(Key(7, 3, torch.tensor([9, 4, 1, 0, 3]))):
        assert not torch.allclose(whole, block(x))


def test_a_batch_that_draws_as_one_sees_one_column(x):
    block = made(3, alone=1.0, per="batch").train()
    alone = torch.stack([column(block, c, x) for c in range(3)])
    with keyed(Key(0, 1)):
        near = (block(x) - alone).abs().amax((2, 3, 4)) < 1e-12
    assert sorted(near.all(1).tolist()) == [False, False, True]


def test_in_evaluation_and_with_nothing_to_drop_all_columns_live(x):
    block = made(3)
    assert torch.equal(block.eval()(x), made(3, p=0.0, alone=0.0).train()(x))


def test_dropped_columns_learn_nothing_from_a_sample(x):
    block = made(2, p=0.0, alone=1.0).train()
    with keyed(Key(0, 0, torch.tensor([1]))):
        block(x[:1]).square().sum().backward()
    moved = [conv[0].weight.grad.abs().sum() > 0 for conv in block.convs]
    assert moved in ([True, False, False], [False, True, True])


def test_a_network_of_them_learns():
    torch.manual_seed(0)
    blocks = [FractalBlock(8, 8, 2), nn.MaxPool2d(2), FractalBlock(8, 16, 2)]
    net = Chain(ConvStem(1, 8), blocks, PlainHead(16, 3))
    optimizer, losses = torch.optim.Adam(net.parameters(), 0.01), []
    x, targets = torch.rand(6, 1, 8, 8), torch.arange(6) % 3
    for _ in range(30):
        losses.append(nn.functional.cross_entropy(net(x), targets))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("options", [{"columns": 0}, {"p": 1.0}, {"alone": 1.5}, {"per": "row"}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(InputError, match="FractalBlock got"):
        FractalBlock(4, 4, **options)
