"""Equal keys give equal numbers; whatever else is different gives others."""

import math

import pytest
import torch

from deqlight.brownian import Key, Stream, keyed, next_stream
from deqlight.errors import InputError, ShapeError

IDS = torch.tensor([17, 4, 0, 9_000_000_000, -3])


def drawn(key, number=0, per="sample", batch=5, dtype=torch.float64):
    return Stream(key, number, per).normal(3, torch.zeros(batch, 2, dtype=dtype))


def test_a_sample_s_numbers_do_not_depend_on_its_batch():
    whole = drawn(Key(0, 7, IDS))
    for rows in ([0], [3, 1], [4, 2, 0]):
        assert torch.equal(drawn(Key(0, 7, IDS[rows]), batch=len(rows)), whole[rows])
    assert len({tuple(row.flatten().tolist()) for row in whole}) == 5


@pytest.mark.parametrize(
    "other",
    [
        (Key(1, 7, IDS), 0),
        (Key(0, 8, IDS), 0),
        (Key(0, 7, IDS + 1), 0),
        (Key(0, 7, IDS, draw=1), 0),
        (Key(0, 7, IDS), 1),
    ],
)
def test_whatever_is_different_gives_others(other):
    key, number = other
    assert not (drawn(key, number) == drawn(Key(0, 7, IDS))).any()


def test_the_rank_tells_in_a_key_of_ranks_alone():
    assert torch.equal(drawn(Key(0, 1, IDS, rank=0)), drawn(Key(0, 1, IDS, rank=1)))
    one, two = (drawn(Key(0, 1, IDS, rank=rank), per="rank") for rank in (0, 1))
    assert not (one == two).any()
    assert torch.equal(one, drawn(Key(0, 1, IDS, rank=0), per="rank"))


def test_calls_and_solves_go_on():
    with keyed(Key(3)):
        first, second = next_stream(), next_stream()
        a, b = first.normal(2, torch.zeros(4)), first.normal(2, torch.zeros(4))
    assert not torch.equal(a, b)
    assert not torch.equal(a, second.normal(2, torch.zeros(4)))
    with keyed(Key(3)):
        assert torch.equal(next_stream().normal(2, torch.zeros(4)), a)


def test_blocks_nest():
    with keyed(Key(1)):
        outer = next_stream().normal(1, torch.zeros(3))
        with keyed(Key(2)):
            inner = next_stream().normal(1, torch.zeros(3))
        after = next_stream().number
    with keyed(Key(2)):
        assert torch.equal(next_stream().normal(1, torch.zeros(3)), inner)
    assert after == 1
    assert not torch.equal(outer, inner)


def test_outside_of_a_block_torch_s_seed_tells():
    def outside():
        return next_stream().normal(1, torch.zeros(3))

    torch.manual_seed(5)
    a, b = outside(), outside()
    torch.manual_seed(5)
    assert torch.equal(outside(), a)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("per", ["sample", "rank"])
def test_the_laws(per):
    """Within 5 standard errors; neighbours, of samples and of places, have nothing to do with each other."""
    stream, many = Stream(Key(2), 0, per), 200
    z = stream.normal(1000, torch.zeros(many, 1, dtype=torch.float64))[..., 0]
    u = stream.uniform(1000, torch.zeros(many, 1, dtype=torch.float64))[..., 0]
    error = 5 / math.sqrt(z.numel())
    assert abs(float(z.mean())) < error
    assert abs(float(z.square().mean()) - 1) < error * math.sqrt(2)
    assert abs(float(u.mean()) - 0.5) < error / math.sqrt(12)
    assert abs(float((z[1:] * z[:-1]).mean())) < error
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < error
    assert 0 <= float(u.min()) < float(u.max()) < 1


def test_kinds_are_those_of_the_state():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert drawn(Key(0), dtype=dtype).dtype == dtype


def test_ids_must_be_as_many_as_samples():
    with pytest.raises(ShapeError, match=r"batch of 4 samples got ids of shape \(5,\)"):
        drawn(Key(0, 0, IDS), batch=4)
    with pytest.raises(InputError, match="Key"), keyed(3):
        pass
