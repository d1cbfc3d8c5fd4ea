"""The experiments `anode_reflection` and `oscillator`, from the command line."""

import csv
import os
from pathlib import Path

import pytest

from deqlight.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs" / "experiment"
BRIEF = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
CHANGES = {
    "anode_reflection": ["--model.net.stages.lift.channels 0"],
    "oscillator": [
        "--model.net.field MLP --model.net.lift Identity",
        "--model.net.field MLP --model.net.lift Augment --model.net.lift.channels 1",
        "--data.velocity true --model.net.lift Split --model.net.channels 2",
        "--data.irregular true",
    ],
}
PAIRS = [(name, change) for name, changes in CHANGES.items() for change in ["", *changes]]

LEARNT = 0.02  # rmse on the test part, of targets of size 1: 0.009, 0.010, and 0.011 over twice the time
VARIANCE = 0.33  # of the test part's targets, rounded down from 0.3307: what no plain network gets below


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["deqlight"])


def run(command, *words):
    assert main([command, *words, "--trainer.accelerator=cpu"]) == 0


def scores(name):
    """What the last `test` of an experiment wrote."""
    (path,) = sorted(Path("runs", name).glob("version_*/test/version_*/metrics.csv"), key=os.path.getmtime)[-1:]
    with path.open() as file:
        return {key: float(value) for key, value in next(csv.DictReader(file)).items()}


@pytest.mark.parametrize(("name", "change"), PAIRS, ids=lambda value: value or "as it is")
def test_it_runs_as_its_comments_say(name, change):
    assert change in (CONFIGS / f"{name}.yaml").read_text()
    run("fit", "-c", name, *change.split(), *BRIEF)
    run("test", "--ckpt_path", "best", "--trainer.limit_test_batches=1")
    assert scores(name)["nfe/forward"] > 0


def test_a_checkpoint_forecasts_later_times():
    run("fit", "-c", "oscillator", *BRIEF)
    run("predict", "-c", "oscillator", "--ckpt_path", "best", "--data.horizon=12", "--data.points=5")
    (path,) = Path("runs/oscillator").glob("version_*/predict/version_*/predictions.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    assert [float(rows[0][f"ts_{n}"]) for n in range(5)] == [0.0, 3.0, 6.0, 9.0, 12.0]


@pytest.mark.slow
def test_the_reflection_is_learnt_with_a_channel_more_and_not_without():
    run("fit", "-c", "anode_reflection")
    run("test", "-c", "anode_reflection", "--ckpt_path", "best")
    assert scores("anode_reflection")["test/rmse"] < LEARNT
    plain = "--model.net.stages.lift.channels=0"
    run("fit", "-c", "anode_reflection", plain, "--name", "plain")
    run("test", "-c", "anode_reflection", plain, "--name", "plain", "--ckpt_path", "best")
    assert scores("plain")["test/loss"] > VARIANCE


@pytest.mark.slow
def test_the_oscillator_is_learnt_and_goes_on():
    run("fit", "-c", "oscillator")
    for horizon in (6, 12):
        run("test", "-c", "oscillator", "--ckpt_path", "best", f"--data.horizon={horizon}")
        assert scores("oscillator")["test/rmse"] < LEARNT
