"""What deqlight takes from Lightning's inside for several processes; if it moves, this says so."""

import gc
import os
import signal
import subprocess
import sys
from datetime import timedelta

import lightning as L
import pytest
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.strategies.launchers import subprocess_script

from deqlight.cli import runs, start, watch
from deqlight.cli.faults import translate
from deqlight.cli.line import read
from deqlight.cli.ranks import TOLD, settle
from deqlight.errors import ConfigError

QUIET = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False}


def test_lightnings_observer_is_where_ours_takes_its_place():
    launch = subprocess_script._SubprocessScriptLauncher.launch
    assert "_launch_process_observer" in launch.__code__.co_names and "_launch_process_observer" in vars(
        subprocess_script
    )


@pytest.mark.parametrize("strategy", [DDPStrategy, FSDPStrategy])
def test_a_timeout_is_where_ours_is_put(strategy):
    assert vars(strategy(timeout=timedelta(seconds=7)))["_timeout"] == timedelta(seconds=7)


def test_the_backend_is_asked_for_where_it_is():
    strategy = L.Trainer(**QUIET, devices=2, strategy="ddp").strategy
    assert "_process_group_backend" in vars(strategy) and strategy._get_process_group_backend() == "gloo"


def test_signals_are_left_to_deqlight():
    before = signal.getsignal(signal.SIGTERM)
    trainer = settle(L.Trainer(**QUIET), None)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is before


def test_ranks_do_not_wait_to_be_told_what_lightnings_handlers_have_heard():
    asked = [name for name in _TrainingEpochLoop.advance.__code__.co_names if "sigterm" in name]
    assert asked in ([], [TOLD])
    trainer = settle(L.Trainer(**QUIET), None)
    assert getattr(trainer.fit_loop.epoch_loop, TOLD)() is None  # it would need a strategy that is set up


def test_the_collector_of_garbage_leaves_alone_what_stays(monkeypatch):
    monkeypatch.setattr(start, "App", lambda experiment: gc.get_freeze_count())
    before = gc.get_freeze_count()
    assert start.launch(read(["fit", "-c", "resnet_digits"])) > before + 10_000
    assert gc.get_freeze_count() == 0


def test_a_timeout_of_one_process_is_refused():
    with pytest.raises(ConfigError, match="SingleDeviceStrategy has one: add"):
        settle(L.Trainer(**QUIET), 60.0)
    trainer = settle(L.Trainer(**QUIET, devices=2, strategy="ddp"), 60.0)
    assert vars(trainer.strategy)["_timeout"] == timedelta(seconds=60)


def test_a_misspelt_strategy_is_a_request_that_cannot_be_met(deqlight):
    done = deqlight("fit", "-c", "resnet_digits", "--trainer.strategy=ddpp", "--trainer.accelerator=cpu")
    assert done.code == 2 and "strategy='ddpp'" in done.err and "Example choices: auto, ddp" in done.err


SAID = {
    "[..] Connection reset by peer [127.0.0.1]:5": (75, "another rank has ended"),
    "Application timeout caused pair closure": (75, "did not answer in time"),
    "The server socket has failed to bind. EADDRINUSE": (1, "in use"),
    "The client socket has timed out after 6000ms while trying to connect to (10.0.0.1, 3)": (75, "come together"),
}


@pytest.mark.parametrize("text", SAID)
def test_lost_connections_in_our_words(text):
    line, code = translate(RuntimeError(text))
    assert code == SAID[text][0] and SAID[text][1] in line


def test_a_started_rank_that_dies_takes_the_first_along():
    code = (
        "import subprocess, sys, time\nfrom deqlight.cli import watch\nwatch.GRACE = 0.3\n"
        "child = subprocess.Popen(['sleep', '60'])\nwatch.watch([child])\nchild.kill()\ntime.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == watch.LOST and "rank 1 was ended by SIGKILL" in done.stderr


def test_who_is_first_and_who_was_started(monkeypatch):
    for name in runs.RANKS:
        monkeypatch.delenv(name, raising=False)
    assert not (runs.follows() or runs.is_child())
    monkeypatch.setenv("NODE_RANK", "1")
    assert runs.follows()
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    assert not runs.follows()
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(runs.DECIDED, str(os.getpid()))  # torchrun's rank, which has decided for itself
    assert not runs.is_child()
    monkeypatch.setenv(runs.DECIDED, str(os.getppid()))
    assert runs.is_child()
