import shutil
import signal
from pathlib import Path

import pytest
import torch
import training

from deqlight.callbacks import Best, Last, Stopped
from deqlight.errors import CheckpointError

SETTINGS = {
    "plain": {},
    "two validations an epoch": {"val_check_interval": 0.5},
    "accumulated gradients": {"accumulate_grad_batches": 2},
    "a part of the batches": {"limit_train_batches": 7},
    "validation every second epoch": {"check_val_every_n_epoch": 2},
}


def run(folder, *extra, ckpt_path=None, **kwargs):
    """Train in `folder`, from a checkpoint if one is given; returns the weights, or the Stopped."""
    task = training.task()
    trainer = training.trainer(folder, *extra, Best(), Last(), **kwargs)
    torch.manual_seed(99)  # a resumed process has other random numbers until the checkpoint brings the right ones
    if ckpt_path is None:
        torch.manual_seed(0)
    try:
        trainer.fit(task, datamodule=training.digits(), ckpt_path=ckpt_path)
    except Stopped as stop:
        return stop
    return training.weights(task)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    known = {}

    def weights(name):
        if name not in known:
            known[name] = run(tmp_path_factory.mktemp("unbroken"), **SETTINGS[name])
        return known[name]

    return weights


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("plain", [1]),
        ("plain", [4, 5, 6]),  # again and again in one epoch
        ("plain", [9]),  # just before an epoch's end
        ("plain", [10]),  # at it: an epoch has ten batches
        ("plain", [11, 25]),
        ("two validations an epoch", [5]),  # where the validation begins
        ("two validations an epoch", [7, 16]),
        ("accumulated gradients", [3, 8]),
        ("a part of the batches", [3, 7, 12]),
        ("validation every second epoch", [10, 14]),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(tmp_path, unbroken, name, stops):
    path = None
    for number, step in enumerate(stops):
        act = training.At(step, training.interrupt)
        stop = run(tmp_path / str(number), act, ckpt_path=path, **SETTINGS[name])
        assert isinstance(stop, Stopped)
        assert (stop.step, stop.code, stop.path.name) == (step, 130, "last.ckpt")
        path = stop.path
    resumed, whole = run(tmp_path / "end", ckpt_path=path, **SETTINGS[name]), unbroken(name)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_sigterm_stops_with_its_own_code(tmp_path):
    stop = run(tmp_path, training.At(2, training.terminate))
    assert (stop.code, stop.signal) == (143, signal.SIGTERM)


def test_the_signals_are_given_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(tmp_path / "a", training.At(2, training.interrupt))
    run(tmp_path / "b", max_epochs=1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_stops_at_once(tmp_path):
    def twice(module):
        training.interrupt(module)
        training.interrupt(module)

    with pytest.raises(SystemExit) as caught:
        run(tmp_path, training.At(2, twice))
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_both_checkpoints_are_kept(tmp_path):
    run(tmp_path, max_epochs=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_resumed_run_takes_the_best_over(tmp_path):
    stop = run(tmp_path / "a", training.At(15, training.interrupt))
    best = torch.load(tmp_path / "a" / "checkpoints" / "best.ckpt", weights_only=True)
    task, keeper = training.task(), Best()
    trainer = training.trainer(tmp_path / "b", keeper, Last())
    trainer.fit_loop.max_epochs = 2
    keeper.mode, score = "max", best["callbacks"][keeper.state_key]["best_model_score"]
    trainer.fit(task, datamodule=training.digits(), ckpt_path=stop.path)
    assert keeper.best_model_score >= score
    assert Path(keeper.best_model_path) == tmp_path / "b" / "checkpoints" / "best.ckpt"
    assert Path(keeper.best_model_path).is_file()


def test_a_lost_best_is_no_fault(tmp_path):
    stop = run(tmp_path / "a", training.At(15, training.interrupt))
    moved = shutil.copy(stop.path, tmp_path / "moved.ckpt")
    shutil.rmtree(tmp_path / "a")
    assert isinstance(run(tmp_path / "b", ckpt_path=moved), dict)


def test_a_folder_that_cannot_be_written_is_an_error_before_the_training(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="no checkpoint can be written to"):
        run(tmp_path)


def test_a_checkpoint_holds_plain_values_and_tensors(tmp_path):
    run(tmp_path, max_epochs=1)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 10
