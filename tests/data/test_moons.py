import pytest
import torch

from deqlight.data import TwoMoons
from deqlight.errors import InputError
from deqlight.metrics import OUTSIDE


def test_far_points_stand_in_the_test_part_alone_and_are_far():
    data = TwoMoons(train=100, val=50, test=60, far=70)
    points, parts = data.load()
    assert [len(parts[name]) for name in ("train", "val", "test")] == [100, 50, 130]
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(280))
    outside = points.targets == OUTSIDE
    assert outside.sum() == 70 and outside[parts["test"]].sum() == 70
    apart = torch.cdist(points.inputs[outside], points.inputs[~outside])
    assert apart.min() >= data.gap - 1e-5  # float32
    assert points.inputs.dtype == torch.float32 and points.targets.dtype == torch.long
    assert points.targets[~outside].bincount().tolist() == [105, 105]


def test_points_depend_on_their_seed_alone():
    torch.manual_seed(1)
    one = TwoMoons().load()[0]
    torch.manual_seed(2)
    assert torch.equal(one.inputs, TwoMoons().load()[0].inputs)
    assert not torch.equal(one.inputs, TwoMoons(data_seed=1).load()[0].inputs)


def test_no_far_points():
    points, parts = TwoMoons(far=0).load()
    assert (points.targets >= 0).all() and len(parts["test"]) == 512


@pytest.mark.parametrize("bad", [{"train": 0}, {"far": -1}, {"noise": -0.1}, {"gap": 7.0}, {"batch_size": 0}])
def test_what_cannot_be(bad):
    with pytest.raises(InputError, match="TwoMoons"):
        TwoMoons(**bad)


def test_no_room():
    with pytest.raises(InputError, match="no room for 10 far points"):
        TwoMoons(noise=3.0, reach=4.0, far=10).load()
