import pytest
import torch

from deqlight.data import Digits
from deqlight.errors import InputError


def digits(**kwargs):
    data = Digits(**kwargs)
    data.setup("fit")
    return data


def ids(loader):
    return torch.cat([batch.ids for batch in loader])


def parts(data):
    return ids(data.train_dataloader()), ids(data.val_dataloader()), ids(data.test_dataloader())


def test_the_parts_are_the_whole_and_disjoint():
    train, val, test = parts(digits())
    assert (len(train), len(val), len(test)) == (1257, 180, 360)
    assert sorted(torch.cat([train, val, test]).tolist()) == list(range(1797))


def test_the_split_is_stratified():
    data = digits()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        targets = torch.cat([batch.targets for batch in loader])
        shares = targets.bincount(minlength=10) / len(targets)
        assert (shares - 0.1).abs().max() < 0.01


def test_the_split_depends_on_its_seed_alone():
    torch.manual_seed(1)
    one = parts(digits())
    torch.manual_seed(2)
    two = parts(digits())
    assert torch.equal(one[1], two[1])
    assert torch.equal(one[2], two[2])
    assert not torch.equal(one[0], two[0])  # the order is the run's own
    assert not torch.equal(one[2], parts(digits(split_seed=1))[2])


def test_a_batch_is_what_the_networks_expect():
    batch = next(iter(digits(batch_size=7).train_dataloader()))
    assert batch.inputs.shape == (7, 1, 8, 8)
    assert (batch.inputs.dtype, batch.targets.dtype, batch.ids.dtype) == (torch.float32, torch.int64, torch.int64)
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1
    assert (Digits().classes, Digits().channels) == (10, 1)


def test_a_resumed_run_keeps_its_order():
    torch.manual_seed(1)
    first = digits()
    expected = ids(first.train_dataloader())
    torch.manual_seed(2)
    second = digits()
    second.load_state_dict(first.state_dict())
    assert torch.equal(ids(second.train_dataloader()), expected)


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 0},
        {"val_fraction": 0.0},
        {"val_fraction": 0.5, "test_fraction": 0.5},
        {"test_fraction": -0.1},
        {"shift": -1},
        {"val_fraction": 1e-4},
    ],
)
def test_what_cannot_be(bad):
    with pytest.raises(InputError):
        digits(**bad)
