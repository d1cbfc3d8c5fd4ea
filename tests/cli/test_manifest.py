"""What a run says of itself: `manifest.json`, its part in checkpoints, and the line about a changed batch."""

import json
import os
import platform
import signal

import pytest
import torch

from deqlight.callbacks import EpochLines
from deqlight.callbacks.manifest import batch_size
from deqlight.data import Digits
from deqlight.plugin.manager import host

LONGER = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=4")


def told(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_it_holds_what_went_in_and_what_came_out(trained):
    found = told(trained.parents[1])
    assert (found["status"], found["seed"], found["world_size"], found["epochs"], found["steps"]) == (
        *("finished", 7, 1, 2, 6),
    )
    assert found["batch"] == {"size": 32, "ranks": 1, "accumulated": 1, "effective": 32}
    assert found["config"]["model"]["init_args"]["net"]["init_args"]["solver"]["init_args"]["k"] == 0.125
    assert found["versions"]["torch"] == torch.__version__ and found["versions"]["python"] == platform.python_version()
    (rank,) = found["ranks"]
    assert rank["plugins"] == found["plugins"] == [list(pair) for pair in host().manifest()]
    assert rank["rank"] == 0 and rank["system"] == platform.platform()
    assert found["solver"]["NFE forward"] == found["solver"]["steps"] == 6.0 and found["solver"]["rejected"] == 0.0
    assert found["metrics"].keys() >= {"train/loss", "val/loss", "val/accuracy"}
    assert found["best"]["metric"] == "val/accuracy"


def test_rejected_steps_are_counted(deqlight, tmp_path):
    measured = ("--model.net.solver=Dopri5", "--model.net.controller=PID", "--model.net.controller.rtol=1e-6")
    first = ("--model.net.controller.first_step=1.0", "--trainer.limit_train_batches=1", "--trainer.max_epochs=1")
    short = ("--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--data.batch_size=4")
    done = deqlight("fit", "-c", "neural_ode_digits", *measured, *first, *short)
    assert done.code == 0, done.err
    solver = told(tmp_path / "runs" / "neural_ode_digits" / "version_0")["solver"]
    assert solver["rejected"] > 0 and solver["NFE forward"] > 6 * solver["steps"] > 0


def test_a_checkpoint_holds_what_a_resumed_run_is_compared_with(trained):
    run = torch.load(trained, weights_only=True)["deqlight"]["run"]
    whole = told(trained.parents[1])
    assert run == {key: whole[key] for key in ("seed", "world_size", "batch", "versions")}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--trainer.accumulate_grad_batches=2",), "effective batch 64 now, 32 then;"),
        (("--data.batch_size=48",), "effective batch 48 now, 32 then;"),
        ((), None),
    ],
    ids=["accumulated", "larger", "same"],
)
def test_another_effective_batch_is_told_in_one_line(deqlight, trained, options, line):
    done = deqlight("fit", "--ckpt_path", trained, "--runs=again", *LONGER, *options)
    assert done.code == 0, done.err
    lines = [one for one in done.err.splitlines() if "effective batch" in one]
    assert len(lines) == (line is not None)
    assert line is None or line in lines[0]


def test_how_a_run_ended_badly_is_told(deqlight, tmp_path):
    short = ("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu")
    done = deqlight("fit", "-c", "resnet_digits", "--model.optimizer.lr=1e30", *short, "--trainer.max_epochs=9")
    assert done.code == 4, done.err
    found = told(tmp_path / "runs" / "resnet_digits" / "version_0")
    assert found["status"] == "failed" and found["reason"].startswith("NonFinite: ")


def test_that_a_run_was_asked_to_stop_is_told(deqlight, tmp_path, monkeypatch):
    monkeypatch.setattr(EpochLines, "on_train_batch_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    short = ("--trainer.limit_train_batches=3", "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu")
    done = deqlight("fit", "-c", "resnet_digits", *short, "--trainer.max_epochs=9")
    assert done.code == 143, done.err
    found = told(tmp_path / "runs" / "resnet_digits" / "version_0")
    assert (found["status"], found["steps"], found["reason"]) == ("stopped", 1, "Stopped: 143")


def test_the_batch_size_of_any_loader():
    class Trainer:
        train_dataloader = torch.utils.data.DataLoader(range(10), batch_size=5)

    assert batch_size(Trainer()) == 5
    Trainer.train_dataloader = [1, 2]
    assert batch_size(Trainer()) is None
    data = Digits(batch_size=16)
    data.prepare_data()
    data.setup("fit")
    Trainer.train_dataloader = data.train_dataloader()
    assert batch_size(Trainer()) == 16
