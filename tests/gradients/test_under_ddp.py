"""Two processes train as one with all samples, by every gradient rule, though their steps differ."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("ddp_worker.py")
NAMES = re.findall(r'^    "([^"]+)": \(', WORKER.read_text(), re.MULTILINE)
SAME = 1e-10  # float64: sums in another order
WORLD, LIMIT = 2, 90


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
    command, arguments = [sys.executable, str(WORKER)], [str(WORLD), str(port), str(folder)]
    ranks = [subprocess.Popen([*command, str(r), *arguments], env=environment) for r in range(WORLD)]
    try:
        assert [rank.wait(LIMIT) for rank in ranks] == [0] * WORLD
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize("rule", NAMES)
def test_parameters_are_those_of_one_process(differences, rule):
    assert all(found[rule] < SAME for found in differences), differences
