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


@pytest.fixture
def stub(monkeypatch):
    """Stands for the training: the seed is the score; `stub.failing` holds the experiments that fail."""

    class Stub:
        def __init__(self):
            self.ran, self.failing, self.configs = [], set(), []

        def __call__(self, cell, store):
            name = cell.entrant.experiment
            self.ran.append((name, cell.seed))
            self.configs.append(cell.entrant.config)
            failed = {"status": "failed", "reason": "it | diverged"} if name in self.failing else {"status": "finished"}
            return {
                **{"experiment": name, "options": cell.entrant.options, "seed": cell.seed, "key": cell.entrant.key},
                **{**failed, "exit code": 4 if name in self.failing else 0, "seconds": 1.0, "parameters": 10},
                "metrics": {} if name in self.failing else {"test/accuracy": cell.seed / 10, "nfe/forward": 6.0},
                "machine": {"cpu": "a cpu", "threads": 1, "python": "3", "torch": "2"},
            }

        def took(self):
            ran, self.ran = self.ran, []
            return ran

    stub = Stub()
    monkeypatch.setattr("deqlight.cli.compare.trained", stub)
    return stub
