"""A sample's noise is its own: on one process or two, and after a resume in mid-epoch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("noisy_run.py")


def noise(devices, batch, steps, folder, key="sample"):
    """What each sample saw in each step, one dictionary for each rank."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), *map(str, (devices, batch, steps, key, folder))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads((folder / f"noise-{rank}.json").read_text()) for rank in range(devices)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Six steps of one process, with 32 samples each."""
    (found,) = noise(1, 32, 6, tmp_path_factory.mktemp("alone"))
    return found


def test_two_processes_see_the_noise_of_one(alone, tmp_path):
    ranks = noise(2, 16, 6, tmp_path)
    for step, whole in alone.items():
        first, second = (rank[step] for rank in ranks)
        assert not first.keys() & second.keys()
        assert {**first, **second} == whole  # bit by bit
        assert len({tuple(path) for path in whole.values()}) == 32  # no two share a path


def test_a_resumed_run_goes_on_with_the_noise(alone, tmp_path):
    noise(1, 32, 3, tmp_path)
    (found,) = noise(1, 32, 6, tmp_path)
    assert found.keys() == {"4", "5", "6"}
    assert all(found[step] == alone[step] for step in found)


def test_ranks_with_keys_of_their_own_share_no_path(tmp_path):
    first, second = noise(2, 16, 2, tmp_path, key="rank")
    paths = [tuple(path) for rank in (first, second) for step in rank.values() for path in step.values()]
    assert len(set(paths)) == len(paths) == 64
