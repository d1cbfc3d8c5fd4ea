"""The command line with two processes."""

import csv
import signal
import time

import pytest
import torch
from guest import guest
from processes import DDP, PATIENCE, finish, start

from deqlight.cli.main import main


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of two processes, with a guest's solver, interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "companion.py").write_text(guest("Companion"))
    words = ("--plugin=companion.py", "--model.net.solver=Companion", "--trainer.max_epochs=50")
    process = start(folder, "fit", "-c", "resnet_digits", *words, *DDP)
    deadline = time.monotonic() + PATIENCE
    for line in process.stdout:
        if line.startswith("epoch 1/") or time.monotonic() > deadline:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)  # to the first process alone: the other learns of it
    return folder, *finish(process)


def test_two_processes_stop_together_and_say_how_to_go_on(stopped):
    folder, code, said = stopped
    assert code == 130, said
    assert said.count("go on with: deqlight fit --plugin companion.py --ckpt_path") == 1
    content = torch.load(folder / "runs/resnet_digits/version_0/checkpoints/last.ckpt", weights_only=True)
    assert len(content["rng"]) == 2
    assert 10 <= content["global_step"] < 500


def test_there_is_one_run_folder(stopped):
    folder, *_ = stopped
    assert [path.name for path in (folder / "runs" / "resnet_digits").iterdir()] == ["version_0"]


def test_a_score_does_not_depend_on_the_number_of_processes(stopped, monkeypatch):
    folder, *_ = stopped
    monkeypatch.chdir(folder)
    words = ("test", "--plugin=companion.py", "--ckpt_path=last")
    code, said = finish(start(folder, *words, *DDP))
    assert code == 0, said
    assert main([*words, "--trainer.accelerator=cpu"]) == 0
    scores = []
    for number in range(2):
        results = folder / "runs/resnet_digits/version_0/test" / f"version_{number}"
        with (results / "metrics.csv").open() as file:
            scores.append({name: float(value) for name, value in next(csv.DictReader(file)).items()})
    assert scores[0].keys() == scores[1].keys()
    for name, value in scores[0].items():
        assert value == pytest.approx(scores[1][name], rel=1e-4), name
