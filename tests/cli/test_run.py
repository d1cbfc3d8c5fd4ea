import csv
import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from guest import guest
from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningCLI

from deqlight.cli.app import App
from deqlight.cli.runs import next_folder
from deqlight.plugin.manager import host

SHORT = ("--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu")
PATIENCE = 60  # seconds; a start takes 5 on an idle machine


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_leaves_one_folder_with_everything(trained):
    folder = trained.parents[1]
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    assert names >= {"config", "metrics", "events", "checkpoints"}
    assert {path.name for path in trained.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    with (folder / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"train/loss", "val/accuracy", "nfe/forward", "step", "epoch"} <= set(header)
    stamp = torch.load(trained, weights_only=True)["deqlight"]
    assert stamp["config"] == yaml.safe_load((folder / "config.yaml").read_text())
    assert stamp["plugins"] == [list(pair) for pair in host().manifest()]


def test_the_saved_configuration_runs_again_to_the_same_weights(deqlight, trained):
    done = deqlight("fit", "-c", trained.parents[1] / "config.yaml", "--runs", "again")
    assert done.code == 0, done.err
    assert equal(weights("again/resnet_digits/version_0/checkpoints/last.ckpt"), weights(trained))


def test_a_printed_configuration_reads_as_itself(deqlight, tmp_path):
    controller = ("--model.net.solver=Dopri5", "--model.net.controller=PID", "--model.net.controller.rtol=1e-5")
    first = deqlight(
        "fit", "-c", "neural_ode_digits", *controller, "--model.net.controller.atol=1e-7", "--print_config"
    )
    assert first.code == 0, first.err
    assert (
        yaml.safe_load(first.out)["model"]["init_args"]["net"]["init_args"]["controller"]["init_args"]["rtol"] == 1e-5
    )
    (tmp_path / "printed.yaml").write_text(first.out)
    second = deqlight("fit", "-c", "printed.yaml", "--print_config")
    assert second.out == first.out


POLICY = "--model.net.on_failure"


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        ("neural_ode_digits", (f"{POLICY}=Fallback", f"{POLICY}.solver=Kvaerno3")),
        ("neural_ode_digits", ("--model.net.solver=StepDoubling", "--model.net.solver.solver=RK38")),
        ("semilinear_digits", ("--model.net.solver=IMEXEuler",)),
        ("revnet_digits", ("--model.net.solver=Ruth3", f"{POLICY}=Freeze")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_knows_its_solver_controller_and_policy(deqlight, experiment, options):
    done = deqlight("fit", "-c", experiment, *options, *SHORT, "--trainer.limit_train_batches=1")
    assert done.code == 0, done.err
    done = deqlight("test", "--ckpt_path", "last", "--name", experiment, "--trainer.limit_test_batches=1")
    assert done.code == 0, done.err


def test_nothing_is_written_where_nothing_is_asked_for(deqlight, tmp_path):
    for command in ("fit", "test"):
        quiet = ("--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.max_epochs=1")
        assert deqlight(command, "-c", "resnet_digits", *SHORT, *quiet, "--trainer.limit_test_batches=1").code == 0
    assert deqlight("fit", "-c", "resnet_digits", "--trainer.fast_dev_run=true").code == 0
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_written_beside_the_checkpoint(deqlight, trained):
    done = deqlight("predict", "--ckpt_path", trained, "--trainer.accelerator=cpu")
    assert done.code == 0, done.err
    with (trained.parents[1] / "predict" / "version_0" / "predictions.csv").open() as file:
        assert len(list(csv.reader(file))) == 361


def test_a_diverged_run_has_a_code_of_its_own(deqlight):
    done = deqlight(
        "fit", "-c", "resnet_digits", *SHORT, "--model.optimizer.lr=1e30", "--trainer.num_sanity_val_steps=0"
    )
    assert done.code == 4
    assert "error: " in done.err
    assert not Path("runs/resnet_digits/version_0/checkpoints/last.ckpt").exists()


def test_a_guest_solver_trains_and_its_checkpoint_asks_for_it(deqlight, tmp_path):
    (tmp_path / "guest.py").write_text(guest("Guest"))
    done = deqlight(
        "fit", "-c", "resnet_digits", "--plugin=guest.py", "--model.net.solver=Guest", *SHORT, "--trainer.max_epochs=1"
    )
    assert done.code == 0, done.err
    assert deqlight("test", "--ckpt_path=last", "--plugin=guest.py", "--trainer.limit_test_batches=1").code == 0
    refused = deqlight("test", "--ckpt_path=last", "--trainer.limit_test_batches=1")
    assert refused.code == 2
    assert "--plugin FILE.py" in refused.err


def test_two_runs_get_two_folders(tmp_path):
    assert [next_folder(tmp_path, "a").name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (tmp_path / "a" / "version_9").mkdir()
    (tmp_path / "a" / "version_x").mkdir()
    assert next_folder(tmp_path, "a").name == "version_10"


def start(folder, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "deqlight", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def signalled(folder, number, *words):
    """Send a signal once the second epoch is being trained; returns the exit code and what was said."""
    process = start(folder, "fit", "-c", "resnet_digits", *words)
    deadline = time.monotonic() + PATIENCE
    for line in process.stdout:
        if line.startswith("epoch 1/") or time.monotonic() > deadline:
            break
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


def test_interrupted_and_resumed_is_as_never_interrupted(tmp_path, deqlight):
    words = ("--trainer.max_epochs=4", "--trainer.accelerator=cpu")
    code, said = signalled(tmp_path, signal.SIGINT, *words)
    assert code == 130, said
    assert "go on with: deqlight fit --ckpt_path runs/resnet_digits/version_0/checkpoints/last.ckpt" in said
    assert "Traceback" not in said
    steps = torch.load("runs/resnet_digits/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert 20 <= steps < 80
    assert deqlight("fit", "--ckpt_path", "last").code == 0
    assert deqlight("fit", "-c", "resnet_digits", "--name", "whole", *words).code == 0
    resumed = weights("runs/resnet_digits/version_1/checkpoints/last.ckpt")
    assert equal(resumed, weights("runs/whole/version_0/checkpoints/last.ckpt"))


def test_sigterm_saves_and_has_the_code_that_schedulers_expect(tmp_path):
    code, said = signalled(tmp_path, signal.SIGTERM, "--trainer.max_epochs=50", "--trainer.accelerator=cpu")
    assert code == 143, said
    assert (tmp_path / "runs/resnet_digits/version_0/checkpoints/last.ckpt").is_file()


def test_the_private_names_we_build_on_are_there():
    """Lightning and jsonargparse may rename these; then these lines say so before a user does."""
    assert list(inspect.signature(LightningCLI._parse_ckpt_path).parameters) == ["self"]
    assert "_parse_ckpt_path" in inspect.getsource(LightningCLI.__init__)
    assert App._parse_ckpt_path(None) is None
    assert list(inspect.signature(LightningCLI._run_subcommand).parameters) == ["self", "subcommand"]
    assert "self._run_subcommand(" in inspect.getsource(LightningCLI.__init__)
    assert list(inspect.signature(LightningCLI._parser).parameters) == ["self", "subcommand"]
    assert "load_value(value)" in inspect.getsource(ActionConfigFile.apply_config)  # a config given as text
