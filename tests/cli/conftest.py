"""The command line in this process: one import of Lightning serves all tests."""

import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from deqlight.cli.main import main

SHORT = (
    *("--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0"),
    *("--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.batch_size=32"),
)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def deqlight(tmp_path, monkeypatch, capfd):
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["deqlight"])
    monkeypatch.setattr("logging.raiseExceptions", False)  # Lightning's handler holds the stderr of an earlier test

    def run(*words):
        capfd.readouterr()
        with warnings.catch_warnings():
            code = main([str(word) for word in words])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The `last.ckpt` of a short run of an LM-ResNet."""
    runs = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["deqlight"])
        solver = ("--model.net.solver=LinearTwoStep", "--model.net.solver.k=0.125")
        assert main(["fit", "-c", "resnet_digits", "--runs", str(runs), "--seed_everything=7", *solver, *SHORT]) == 0
    return Path(runs, "resnet_digits", "version_0", "checkpoints", "last.ckpt")
