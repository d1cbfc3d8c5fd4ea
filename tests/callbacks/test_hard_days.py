"""Failures that cost a step, kills that cost a few, and runs that go on as if there had been none."""

import math

import lightning as L
import pytest
import torch
import training
from lightning.pytorch.callbacks import Checkpoint, EMAWeightAveraging

from deqlight.callbacks import FiniteGuard, Last
from deqlight.errors import InputError, NonFinite


class Poison(L.Callback):
    """NaN in one sample of these batches, counted over the run."""

    def __init__(self, *batches):
        self.batches, self.count = batches, 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.count in self.batches:
            batch.inputs[1] = math.nan
        self.count += 1


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved behind it."""


def kill(module):
    raise Killed


class Watch(Checkpoint):  # those look when the task has logged its means
    def __init__(self):
        self.rows, self.weights = [], None

    def on_train_epoch_end(self, trainer, module):
        self.rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer, module):
        self.weights = training.weights(module)


def fit(folder, *callbacks, ckpt_path=None, seed=99, **kwargs):
    task, watch = training.task(), Watch()
    torch.manual_seed(seed if ckpt_path else 0)  # a resumed process has other random numbers
    trainer = training.trainer(folder, watch, *callbacks, **kwargs)
    trainer.fit(task, datamodule=training.digits(), ckpt_path=ckpt_path)
    return watch, trainer


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize("at", [4, 9, 17, 21])  # an epoch has ten batches
def test_killed_and_resumed_is_as_never_killed(tmp_path, at, averaged):
    """2N steps = N + kill + N: weights and means of the epoch (losses, NFE), in mid-epoch; three steps lost at most."""

    def extra():
        return [EMAWeightAveraging(decay=0.9)] if averaged else []

    whole, _ = fit(tmp_path / "whole", *extra(), Last(every_n_steps=3), max_epochs=3)
    with pytest.raises(Killed):
        fit(tmp_path / "a", *extra(), training.At(at, kill), Last(every_n_steps=3), max_epochs=3)
    path = tmp_path / "a" / "checkpoints" / "last.ckpt"
    assert at - 3 <= torch.load(path, weights_only=True)["global_step"] < at + 1
    resumed, trainer = fit(tmp_path / "b", *extra(), Last(every_n_steps=3), ckpt_path=path, max_epochs=3)
    assert trainer.global_step == 30
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
    assert resumed.rows[-1] == whole.rows[-1] and "nfe/backward" in whole.rows[-1]
    assert resumed.rows == whole.rows[-len(resumed.rows) :]


def test_a_skipped_step_changes_nothing(tmp_path, capsys):
    guard = FiniteGuard("skip", most=2)
    watch, trainer = fit(tmp_path, Poison(3, 5), guard, max_epochs=1)
    assert guard.skipped == 2 and trainer.global_step == 10
    assert all(value.isfinite().all() for value in watch.weights.values())  # running statistics among them
    assert math.isfinite(trainer.callback_metrics["train/loss"]) and trainer.callback_metrics["skipped"] == 2
    (state,) = (state for group in trainer.optimizers for state in [group.state])
    assert {int(one["step"]) for one in state.values()} == {8}
    assert "step 3 skipped, 1 of at most 2: batch 3 of epoch 0, ids [" in capsys.readouterr().err


def test_not_more_are_skipped_than_may_be(tmp_path):
    with pytest.raises(NonFinite, match=r"batch 5 of epoch 0, ids \[.*the loss became nan"):
        fit(tmp_path, Poison(3, 5), FiniteGuard("skip", most=1), max_epochs=1)


def test_the_count_is_kept(tmp_path):
    guard = FiniteGuard("skip", most=5)
    fit(tmp_path / "a", Poison(3), guard, Last(), max_epochs=1)
    again = FiniteGuard("skip", most=5)
    fit(tmp_path / "b", Poison(3), again, Last(), max_epochs=2, ckpt_path=tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert (guard.skipped, again.skipped) == (1, 2)


def test_a_step_of_which_a_part_failed_is_skipped_whole(tmp_path):
    guard = FiniteGuard("skip")
    _, trainer = fit(tmp_path, Poison(2), guard, max_epochs=1, accumulate_grad_batches=2)
    assert guard.skipped == 1 and trainer.global_step == 5


def test_other_faults_are_not_skipped(tmp_path):
    task = training.task()
    task.net.register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.trainer(tmp_path, FiniteGuard("skip"), enable_checkpointing=False).fit(
            task, datamodule=training.digits()
        )
    assert "training_step" not in vars(task)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: FiniteGuard("wait"), "it must be one of stop, skip"),
        (lambda: FiniteGuard("skip", most=-1), "most=-1"),
        (lambda: Last(every_n_steps=0), "every_n_steps=0"),
    ],
    ids=["policy", "most", "steps"],
)
def test_what_cannot_be(make, told):
    with pytest.raises(InputError, match=told):
        make()
