"""The published image sets, of a few samples each, in their true formats."""

import gzip
import os
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tiny_sets
import torch

from deqlight.data import CIFAR10, CIFAR100, MNIST, STL10, FashionMNIST, TinyImageNet
from deqlight.errors import DataError, InputError

SETS = [MNIST, FashionMNIST, CIFAR10, CIFAR100, STL10, TinyImageNet]
JPEG = 3  # by how much a flat JPEG may be off


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny_sets.shrink(monkeypatch)


def made(cls, root, **options):
    options = {"val_fraction": 0.5 if cls is TinyImageNet else 0.25, **options}
    data = cls(str(root), batch_size=7, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def pixels(data, part):
    """All images and classes of a part, by their ids."""
    batches = list({"val": data.val_dataloader, "test": data.test_dataloader}[part]())
    return torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches])


def everything(data):
    return data._dataset[torch.arange(len(data._dataset))]


@pytest.mark.parametrize("form", ["archive", "unpacked"])
@pytest.mark.parametrize("cls", SETS[:-1])
def test_each_image_and_class_is_the_one_in_the_files(cls, form, tmp_path, monkeypatch):
    if form == "archive":
        tiny_sets.publish(monkeypatch, cls, tmp_path)
    else:
        tiny_sets.lay(tmp_path, tiny_sets.unpacked(cls))
    found = everything(made(cls, tmp_path))
    images, classes = (
        np.concatenate(both) for both in zip(*(tiny_sets.drawn(cls, p) for p in ("train", "test")), strict=True)
    )
    assert torch.equal(found.inputs, torch.from_numpy(images).float() / 255)
    assert torch.equal(found.targets, torch.from_numpy(classes))


@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_tiny_imagenet_is_read_by_its_lists_and_grey_becomes_rgb(form, tmp_path, monkeypatch):
    if form == "archive":
        tiny_sets.publish(monkeypatch, TinyImageNet, tmp_path)
    else:
        tiny_sets.lay(tmp_path, tiny_sets.unpacked(TinyImageNet))
    found = everything(made(TinyImageNet, tmp_path))
    levels = [10 * k for _ in (0, 1) for k in range(10)] + [20 * k + 5 for _ in (0, 1) for k in range(5)]
    assert found.inputs.shape == (30, 3, 64, 64)
    assert (found.inputs * 255 - torch.tensor(levels)[:, None, None, None]).abs().max() <= JPEG
    assert found.targets.tolist() == [0] * 10 + [1] * 10 + [0] * 5 + [1] * 5  # places in wnids.txt, which is not sorted


@pytest.mark.parametrize("cls", SETS)
def test_validation_is_taken_from_training_by_class_and_the_test_part_is_the_published_one(cls, tmp_path, monkeypatch):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(cls))
    data = made(cls, tmp_path)
    train, val, test = data._parts["train"], data._parts["val"], data._parts["test"]
    count = cls.samples["train"]
    assert sorted(torch.cat([train, val]).tolist()) == list(range(count))
    assert test.tolist() == list(range(count, count + cls.samples["test"]))
    targets = everything(data).targets
    shares = targets[val].bincount(minlength=cls.classes), targets[:count].bincount(minlength=cls.classes)
    assert (shares[0] - data.val_fraction * shares[1]).abs().max() < 1
    assert torch.equal(val, made(cls, tmp_path)._parts["val"])
    assert not torch.equal(val, made(cls, tmp_path, split_seed=1)._parts["val"])


@pytest.mark.parametrize("cls", SETS)
def test_a_batch_has_the_channels_and_classes_that_the_data_tell(cls, tmp_path):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(cls))
    data = made(cls, tmp_path, shift=2, flip=True, cutout=4, mixup=0.4)
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (7, data.channels, data.side, data.side) and batch.inputs.dtype == torch.float32
    assert batch.targets.shape == (7, data.classes)
    assert batch.inputs.min() >= 0 and batch.inputs.max() <= 1
    assert len(data.mean) == len(data.std) == data.channels
    plain = next(iter(data.val_dataloader()))
    assert plain.targets.dtype == torch.int64 and torch.equal(plain.inputs, everything(data).inputs[plain.ids])


def test_images_without_a_class_are_read_if_asked_for_and_then_predicted(tmp_path):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(STL10))
    data = made(STL10, tmp_path, unlabeled=True)
    batches = list(data.predict_dataloader())
    images, _ = tiny_sets.drawn(STL10, "predict")
    assert torch.equal(torch.cat([b.inputs for b in batches]), torch.from_numpy(images).float() / 255)
    assert set(torch.cat([b.targets for b in batches]).tolist()) == {-1}
    (tmp_path / "stl10_binary/unlabeled_X.bin").unlink()
    assert len(list(made(STL10, tmp_path).predict_dataloader())) == 3  # the test part


# what was decoded once


def kept(root):
    return sorted(path.name for path in (root / "decoded").iterdir())


def test_a_second_start_maps_what_the_first_decoded(tmp_path, monkeypatch):
    tiny_sets.publish(monkeypatch, CIFAR10, tmp_path)
    first = everything(made(CIFAR10, tmp_path))
    monkeypatch.setattr(CIFAR10, "decode", lambda *_: pytest.fail("decoded again"))
    data = made(CIFAR10, tmp_path)
    assert torch.equal(everything(data).inputs, first.inputs)
    assert isinstance(data._dataset.images.base, np.memmap)
    assert data._dataset.images.dtype == np.uint8
    assert len(kept(tmp_path)) == 1


def test_other_files_are_decoded_anew_and_what_was_stale_goes(tmp_path):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(CIFAR10))
    made(CIFAR10, tmp_path)
    before = kept(tmp_path)
    path = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    path.write_bytes(bytes([3]) + path.read_bytes()[1:])  # as long as before, another label
    os.utime(path, (1, 1))
    assert everything(made(CIFAR10, tmp_path)).targets[100] == 3
    assert len(kept(tmp_path)) == 1 and kept(tmp_path) != before


@pytest.mark.parametrize("harm", ["cut", "gone", "other"])
def test_what_was_kept_and_is_not_whole_is_made_anew(harm, tmp_path):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(CIFAR10))
    whole = everything(made(CIFAR10, tmp_path))
    folder = tmp_path / "decoded" / kept(tmp_path)[0]
    if harm == "cut":
        (folder / "images.npy").write_bytes((folder / "images.npy").read_bytes()[:1000])
    elif harm == "gone":
        (folder / "targets.npy").unlink()
    else:
        np.save(folder / "images.npy", np.zeros((3, 4)))
    assert torch.equal(everything(made(CIFAR10, tmp_path)).inputs, whole.inputs)


def test_a_run_that_was_ended_while_it_decoded_leaves_nothing_that_counts(tmp_path, monkeypatch):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(CIFAR10))
    scratch = tmp_path / "decoded" / ".CIFAR10"
    scratch.mkdir(parents=True)
    (scratch / "images.npy").write_bytes(b"half")
    assert len(everything(made(CIFAR10, tmp_path)).ids) == 120
    assert not scratch.exists()


# refusals


def refused(cls, root, **options):
    with pytest.raises(DataError) as caught:
        made(cls, root, **options)
    assert not list(Path(root).glob("decoded/*"))  # nothing half done stays
    return str(caught.value)


@pytest.mark.parametrize("cls", SETS)
def test_a_missing_file_is_named_with_its_place_and_its_address(cls, tmp_path):
    told = refused(cls, tmp_path / "data")
    remote = cls().remotes[0]
    assert str(tmp_path / "data" / remote.path) in told and remote.urls[0] in told and "download=true" in told
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("cls", [CIFAR10, STL10, TinyImageNet])
def test_an_archive_that_is_cut_or_changed_is_refused(cls, tmp_path, monkeypatch):
    (name, data), *_ = tiny_sets.publish(monkeypatch, cls, tmp_path).items()
    for harmed in (data[:-100], data[:-1] + bytes([data[-1] ^ 1])):
        (tmp_path / name).write_bytes(harmed)
        told = refused(cls, tmp_path)
        assert name in told and "md5" in told and "download=true" in told


@pytest.mark.parametrize("cls", [MNIST, CIFAR10, TinyImageNet])
def test_an_archive_that_no_tool_opens_is_refused_even_with_the_right_checksum(cls, tmp_path, monkeypatch):
    files = {name: data[: len(data) // 2] for name, data in tiny_sets.packed(cls).items()}
    tiny_sets.lay(tmp_path, files)
    tiny_sets.vouch(monkeypatch, cls, files)
    assert "could not be read and decoded" in refused(cls, tmp_path)


def idx_of(change):
    files = tiny_sets.mnist_files()
    name = "MNIST/raw/train-images-idx3-ubyte"
    return {**files, name: change(files[name])}


def swap(files, name, data):
    return {**files, name: data}


CIFAR_TEST = "cifar-10-batches-bin/test_batch.bin"


@pytest.mark.parametrize(
    ("cls", "files", "told"),
    [
        (MNIST, lambda: idx_of(lambda d: b"\0\0\x08\x01" + d[4:]), "begins with 00000801, not 00000803"),
        (MNIST, lambda: idx_of(lambda d: b""), "begins with , not"),
        (MNIST, lambda: idx_of(lambda d: d[:-1]), "78399 bytes where its header tells 100 × 28 × 28"),
        (MNIST, lambda: idx_of(lambda d: d + b"\0"), "78401 bytes where its header tells"),
        (MNIST, lambda: idx_of(lambda d: tiny_sets.idx(np.zeros((100, 8, 8), np.uint8))), "of (8, 8) pixels"),
        (MNIST, lambda: idx_of(lambda d: tiny_sets.idx(np.zeros((99, 28, 28), np.uint8))), "there are 99 images"),
        (CIFAR10, lambda: swap(tiny_sets.cifar_files(), CIFAR_TEST, b"\0" * 5000), "ends within a record of 3073"),
        (CIFAR10, lambda: swap(tiny_sets.cifar_files(), CIFAR_TEST, b"\0" * 3073), "only 1 images, 20 were"),
        (CIFAR10, lambda: swap(tiny_sets.cifar_files(), CIFAR_TEST, b"\0" * 3073 * 21), "at least 21 images, 20 were"),
        (
            CIFAR10,
            lambda: swap(tiny_sets.cifar_files(), CIFAR_TEST, b"\n" * 3073),
            "classes from 10 to 10, not from 0 to 9",
        ),
        (STL10, lambda: swap(tiny_sets.stl_files(), "stl10_binary/train_y.bin", b"\1" * 39), "39 labels, not 40"),
        (STL10, lambda: swap(tiny_sets.stl_files(), "stl10_binary/train_y.bin", b"\0" * 40), "from 1 on"),
        (STL10, lambda: swap(tiny_sets.stl_files(), "stl10_binary/test_X.bin", b"\0" * 99), "test_X.bin ends within"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(cls, files, told, tmp_path):
    tiny_sets.lay(tmp_path, files())
    assert told in refused(cls, tmp_path)


ROOT = "tiny-imagenet-200"
SOME = f"{ROOT}/train/n00009000/images/n00009000_3.JPEG"


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        (f"{ROOT}/wnids.txt", b"n00009000", "lists 1 classes, not 200"),
        (f"{ROOT}/val/val_annotations.txt", b"val_0.JPEG\tn1\t0\t0\t1\t1\n", "has the line"),
        (f"{ROOT}/val/val_annotations.txt", b"../a.JPEG\tn00009000\t0\n", "has the line"),
        (f"{ROOT}/val/val_annotations.txt", b"nothing.JPEG\tn00009000\t0\n", "nothing.JPEG is missing"),
        (SOME, b"no picture", "no JPEG that can be read"),
        (SOME, tiny_sets.jpeg(np.zeros((8, 64), np.uint8)), "has 64 × 8 pixels, not 64 × 64"),
    ],
)
def test_a_folder_of_jpegs_that_is_not_what_it_should_be_is_refused(name, data, told, tmp_path):
    tiny_sets.lay(tmp_path, {**tiny_sets.tiny_imagenet_files(), name: data})
    assert told in refused(TinyImageNet, tmp_path)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    tiny_sets.lay(tmp_path, tiny_sets.tiny_imagenet_files())
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install 'deqlight[images]'" in refused(TinyImageNet, tmp_path)


def tar_with(members):
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, data in members:
            archive.addfile(member, BytesIO(data))
    return buffer.getvalue()


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def test_members_that_lead_out_of_an_archive_are_never_written(tmp_path, monkeypatch):
    outside = ("../evil", str(tmp_path / "absolute"), "cifar-10-batches-bin/../../evil")
    hostile = [member(name, b"evil") for name in outside]
    good = [member(f"./{name}", data) for name, data in tiny_sets.cifar_files().items()]
    archive = tar_with([*hostile, *good])
    root = tmp_path / "inner" / "data"
    tiny_sets.lay(root, {"cifar-10-binary.tar.gz": archive})
    tiny_sets.vouch(monkeypatch, CIFAR10, {"": archive})
    assert len(everything(made(CIFAR10, root)).ids) == 120
    assert not list(tmp_path.rglob("*evil*")) and not (tmp_path / "absolute").exists()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 3073 * 20)
    link = member(CIFAR_TEST, type=tarfile.SYMTYPE, linkname=str(secret))
    archive = tar_with([link, *(member(n, d) for n, d in tiny_sets.cifar_files().items() if n != CIFAR_TEST)])
    tiny_sets.lay(tmp_path, {"cifar-10-binary.tar.gz": archive})
    tiny_sets.vouch(monkeypatch, CIFAR10, {"": archive})
    assert "no file but a link" in refused(CIFAR10, tmp_path)


def test_a_compressed_file_and_the_unpacked_one_are_the_same_data(tmp_path, monkeypatch):
    tiny_sets.publish(monkeypatch, MNIST, tmp_path / "packed")
    tiny_sets.lay(
        tmp_path / "open", {n: gzip.decompress(d) for n, d in tiny_sets.packed(MNIST).items() for n in [n[:-3]]}
    )
    one, two = (everything(made(MNIST, tmp_path / name)) for name in ("packed", "open"))
    assert torch.equal(one.inputs, two.inputs) and torch.equal(one.targets, two.targets)


@pytest.mark.parametrize(
    "bad",
    [{"val_fraction": 0.0}, {"val_fraction": 1.0}, {"shift": -1}, {"cutout": -1}, {"mixup": -0.1}, {"batch_size": 0}],
)
def test_options_that_cannot_be(bad):
    with pytest.raises(InputError):
        CIFAR10(**bad)


def test_a_split_that_leaves_a_class_out_is_refused(tmp_path):
    tiny_sets.lay(tmp_path, tiny_sets.unpacked(CIFAR10))
    with pytest.raises(InputError, match="cannot be split"):
        made(CIFAR10, tmp_path, val_fraction=0.05)
