"""Image sets from the command line: by their names, with files of a few samples in the true format."""

import pytest
import tiny_sets

from deqlight.data import CIFAR10, MNIST

BRIEF = ("--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.batch_size=16")
ROBUST = """
trainer:
  callbacks:
    - class_path: Robustness
      init_args: {corruptions: [Blur], severities: [1], attacks: [{class_path: FGSM, init_args: {eps: 0.1}}]}
"""
SMALL = ("--trainer.num_sanity_val_steps=0", "--trainer.limit_train_batches=2")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny_sets.shrink(monkeypatch)


def test_the_published_recipe_trains_and_is_tested_and_attacked(deqlight, tmp_path, monkeypatch):
    """Images stay in [0, 1], though the network subtracts their means."""
    tiny_sets.publish(monkeypatch, CIFAR10, tmp_path / "data")
    done = deqlight("fit", "-c", "resnet_cifar10", *BRIEF, *SMALL)
    assert done.code == 0, done.err
    assert "269,722" in done.out
    (tmp_path / "robust.yaml").write_text(ROBUST)
    done = deqlight("test", "-c", "robust.yaml", "--ckpt_path", "last", "--name", "resnet_cifar10", *BRIEF[:1])
    assert done.code == 0, done.err
    assert "test/accuracy_fgsm_0.1" in done.out and "test/accuracy_blur_1" in done.out


def test_a_set_and_its_options_are_chosen_by_name(deqlight, tmp_path, monkeypatch):
    tiny_sets.publish(monkeypatch, MNIST, tmp_path / "sets")
    options = ("--data=MNIST", "--data.root=sets", "--data.shift=1", "--data.cutout=4", "--data.mixup=0.2")
    done = deqlight("fit", "-c", "resnet_digits", *options, *BRIEF, *SMALL)
    assert done.code == 0, done.err
    assert "val/accuracy" in done.out


def test_a_missing_file_is_one_line_and_no_traceback(deqlight, tmp_path):
    done = deqlight("fit", "-c", "resnet_cifar10", *BRIEF, *SMALL)
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert str(tmp_path / "data" / "cifar-10-binary.tar.gz") in line
    assert "www.cs.toronto.edu" in line and "download=true" in line
    assert "Traceback" not in done.err
