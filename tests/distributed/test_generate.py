"""Samples, and what is measured of them, are the same on one process and on two."""

import csv
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from processes import DDP

from deqlight.cli.main import main

VP_POINTS = Path(__file__).parents[1] / "cli" / "vp_points.yaml"
PATIENCE = 120  # seconds; two starts take 10 on an idle machine
CPU = "--trainer.accelerator=cpu"
FLOAT32 = 1e-4  # relative, of samples in batches of other sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of points in the plane, and each command on one process and on two."""
    folder = tmp_path_factory.mktemp("generated")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    small = (
        "--model.net.net.hidden=16",
        "--data.train=256",
        "--data.val=64",
        "--data.test=100",
        "--data.batch_size=30",
    )
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        patch.setattr("sys.argv", ["deqlight"])
        assert main(["fit", "-c", str(VP_POINTS), *small, CPU, "--trainer.max_epochs=1"]) == 0
        for command in ("test", "predict"):
            assert main([command, "--ckpt_path=last", CPU]) == 0
            words = [sys.executable, "-m", "deqlight", command, "--ckpt_path=last", *DDP]
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, done.stderr
    return folder / "runs" / "vp_points" / "version_0"


def rows(*paths):
    found = []
    for path in paths:
        with Path(path).open() as file:
            found += [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return found


def test_measures(folder):
    (one,), (two,) = (rows(folder / "test" / f"version_{number}" / "metrics.csv") for number in range(2))
    assert one.keys() == two.keys() and "test/sliced_wasserstein" in one
    for name, value in one.items():
        assert value == pytest.approx(two[name], rel=FLOAT32), name


def test_samples(folder):
    one = rows(folder / "predict" / "version_0" / "predictions.csv")
    two = rows(*sorted((folder / "predict" / "version_1").glob("predictions*.csv")))
    found = {row["ids"]: row for row in two}
    assert len(one) == len(two) == len(found) == 100
    for row in one:
        assert row == pytest.approx(found[row["ids"]], rel=FLOAT32, abs=FLOAT32)
