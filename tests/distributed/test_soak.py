"""A short soak: training that is killed ends where undisturbed training ends, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def soak(folder, *words):
    command = [sys.executable, str(SCRIPT), "--minutes=0.6", "--every=10", f"--out={folder / 'soak.json'}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "soak.json").read_text())


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not here")
def test_a_minute_of_it(tmp_path):
    found = soak(tmp_path, "--epochs=16")
    assert found["differences"] == [] and found["kills"] >= 1 and found["steps"] == 16 * 32


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not here")
def test_two_ranks_of_which_either_is_killed(tmp_path):
    found = soak(tmp_path, "--epochs=16", "--every=15", "--ranks=2")
    assert found["differences"] == [] and found["kills"] >= 1
