import sys
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from deqlight.data import Patches
from deqlight.errors import DataError

NAMES = ("china.jpg", "flower.jpg")
SECONDS = 10  # it takes a third of one


@pytest.fixture(scope="module")
def patches():
    data = Patches()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def places(patches):
    """Of each patch the photograph and the row and column where it lies, found by looking at all places."""
    pictures = [load_sample_image(name) for name in NAMES]
    found = {}
    for number, picture in enumerate(pictures):
        windows = np.lib.stride_tricks.sliding_window_view(picture, (32, 32), (0, 1))
        rows, columns = np.indices(windows.shape[:2])
        corners = picture[rows, columns].astype(np.int64) @ [1, 256, 65536]
        for place, corner in zip(zip(rows.flat, columns.flat, strict=True), corners.flat, strict=True):
            found.setdefault((number, int(corner)), []).append((int(place[0]), int(place[1])))
    where = []
    for image in patches._dataset.images:
        corner = int(image[:, 0, 0].astype(np.int64) @ [1, 256, 65536])
        hits = {
            (number, row, column)
            for number, picture in enumerate(pictures)
            for row, column in found.get((number, corner), [])
            if np.array_equal(picture[row : row + 32, column : column + 32].transpose(2, 0, 1), image)
        }
        where.append(hits)
    return where


def test_every_patch_is_a_place_in_the_field_of_its_class(patches, places):
    for hits, target in zip(places, patches._dataset.targets.tolist(), strict=True):
        fields = {number * 4 + (row // 192) * 2 + column // 288 for number, row, column in hits}
        assert target in fields


def test_no_pixel_of_a_part_is_seen_in_another(patches, places):
    masks = {name: np.zeros((2, 427, 640), bool) for name in ("train", "val", "test")}
    for name, mask in masks.items():
        for k in patches._parts[name].tolist():
            (number, row, column), *more = places[k]
            assert not more, "a place must be one"
            mask[number, row : row + 32, column : column + 32] = True
    assert not (masks["train"] & masks["test"]).any()
    assert not (masks["train"] & masks["val"]).any()
    assert not (masks["val"] & masks["test"]).any()
    blocks = [mask[:, :416].reshape(2, 26, 16, 40, 16).any((2, 4)) for mask in masks.values()]
    assert (np.sum(blocks, 0) <= 1).all()  # nor a block of a JPEG


def test_classes_are_balanced_in_each_part(patches):
    for name, count in (("train", 300), ("val", 75), ("test", 100)):
        assert patches._dataset.targets[patches._parts[name]].bincount().tolist() == [count] * patches.classes


def test_a_batch_is_what_the_networks_expect(patches):
    batch = next(iter(patches.train_dataloader()))
    assert batch.inputs.shape == (64, patches.channels, 32, 32) and batch.inputs.dtype == torch.float32
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1


def test_patches_depend_on_their_seed_alone(patches):
    torch.manual_seed(5)
    again, other = Patches().load(), Patches(data_seed=1).load()
    assert np.array_equal(again[0].images, patches._dataset.images)
    assert all(torch.equal(again[1][name], part) for name, part in patches._parts.items())
    assert not np.array_equal(other[0].images, patches._dataset.images)


def test_they_are_there_in_seconds():
    start = time.perf_counter()
    Patches().load()
    assert time.perf_counter() - start < SECONDS


def test_without_pillow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install 'deqlight\[images\]'"):
        Patches().load()
