import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from deqlight.data import Digits, DigitsAgainstPatches
from deqlight.errors import InputError
from deqlight.metrics import OUTSIDE


def test_the_digits_are_those_of_digits_and_patches_stand_in_the_test_part_alone():
    images, parts = DigitsAgainstPatches(patches=50).load()
    digits, own = Digits().load()
    assert torch.equal(images.inputs[:1797], digits.inputs) and torch.equal(images.targets[:1797], digits.targets)
    assert torch.equal(parts["train"], own["train"]) and torch.equal(parts["val"], own["val"])
    assert torch.equal(parts["test"], torch.cat([own["test"], torch.arange(1797, 1847)]))
    assert (images.targets[1797:] == OUTSIDE).all()


def test_patches_are_pictures_in_the_range_of_digits():
    images, _ = DigitsAgainstPatches(patches=50).load()
    patches = images.inputs[1797:]
    assert patches.shape == (50, 1, 8, 8) and patches.dtype == torch.float32
    assert patches.min() >= 0 and patches.max() <= 1
    assert patches.flatten(1).std(1).median() > 0.01  # not all sky
    assert len(patches.flatten(1).unique(dim=0)) == 50


def test_a_patch_is_a_place_in_a_photograph():
    images, _ = DigitsAgainstPatches(patches=3, block=1).load()
    grey = [load_sample_image(name) @ np.array((0.299, 0.587, 0.114)) / 255 for name in ("china.jpg", "flower.jpg")]
    windows = [np.lib.stride_tricks.sliding_window_view(picture.astype(np.float32), (8, 8)) for picture in grey]
    for patch in images.inputs[1797:, 0].numpy():
        assert any((np.abs(window - patch).max((2, 3)) < 1e-6).any() for window in windows)


def test_patches_depend_on_their_seed_alone():
    one, two = (DigitsAgainstPatches(data_seed=seed).load()[0].inputs for seed in (0, 1))
    assert torch.equal(one, DigitsAgainstPatches().load()[0].inputs)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("bad", [{"patches": -1}, {"block": 0}, {"block": 54}, {"val_fraction": 0.0}])
def test_what_cannot_be(bad):
    with pytest.raises(InputError):
        DigitsAgainstPatches(**bad)


def test_the_largest_block_fits():
    assert DigitsAgainstPatches(patches=4, block=53).load()[0].inputs[1797:].isfinite().all()
