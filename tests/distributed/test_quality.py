"""Two processes find the same quality of samples as one does, also where one of them has no true samples."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

WORLD = 2
LIMIT = 60  # seconds; a rank that waits for another is ended after 20
WORKER = Path(__file__).with_name("quality_worker.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two ranks has found, and what one process does."""
    folder = tmp_path_factory.mktemp("quality")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(WORKER)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(WORLD), str(port), str(folder)], env=environment)
        for rank in range(WORLD)
    ]
    try:
        assert [rank.wait(LIMIT) for rank in ranks] == [0] * WORLD
    finally:
        for rank in ranks:
            rank.kill()
    alone = runpy.run_path(str(WORKER))["measured"](0, 1)
    return [json.loads((folder / f"quality-{rank}.json").read_text()) for rank in range(WORLD)], alone


@pytest.mark.parametrize("name", ["wasserstein", "mmd", "manifold"])
def test_collected_samples_give_the_same_to_the_last_bit(found, name):
    ranks, alone = found
    assert ranks[0][name] == ranks[1][name] == alone[name]


def test_running_sums_give_the_same_to_rounding(found):
    ranks, alone = found
    assert ranks[0]["frechet"] == ranks[1]["frechet"] == pytest.approx(alone["frechet"], rel=1e-12)
