import csv
import io
from types import SimpleNamespace

import pytest
import torch
import training
from rich.console import Console
from torch import nn

from deqlight.callbacks import (
    STAMP,
    Best,
    CheckpointParity,
    ConfigStamp,
    EpochLines,
    Last,
    PluginParity,
    Predictions,
    Summary,
    parity,
    statistics,
)
from deqlight.callbacks.parity import compare
from deqlight.callbacks.stamp import write
from deqlight.errors import CheckpointError, PluginError

SAME = [("deqlight:builtin", "0.1.0"), ("deqlight-sspms:sspms", "0.1.0")]


def fit(folder, *callbacks, **kwargs):
    trainer = training.trainer(folder, *callbacks, max_epochs=1, **kwargs)
    trainer.fit(training.task(), datamodule=training.digits())
    return trainer


def test_a_run_writes_its_configuration_and_stamps_its_checkpoints(tmp_path):
    stamp = ConfigStamp("a: 1\n", {"a": 1}, SAME, "0.1.0")
    fit(tmp_path, stamp, Last(), logger=True)
    folder = tmp_path / "lightning_logs" / "version_0"
    assert (folder / "config.yaml").read_text() == "a: 1\n"
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content[STAMP] == {"config": {"a": 1}, "plugins": [list(pair) for pair in SAME], "version": "0.1.0"}


def test_without_a_logger_nothing_is_written_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(tmp_path, ConfigStamp("a: 1\n", {"a": 1}, SAME, "0.1.0"), logger=False, enable_checkpointing=False)
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_is_never_written_over_another(tmp_path):
    texts = ["a: 1\n", "a: 1\n", "a: 2\n", "a: 3\n", "a: 2\n"]
    names = [write(tmp_path, text).name for text in texts]
    assert names == ["config.yaml", "config.yaml", "config-1.yaml", "config-2.yaml", "config-1.yaml"]


def test_equal_plugins_pass():
    compare([SAME, list(SAME), tuple(SAME)])


def test_the_odd_rank_is_named():
    with pytest.raises(
        PluginError, match=r"rank 2 has other plugins.*deqlight-sspms:sspms 0\.2\.0.*deqlight-sspms:sspms 0\.1\.0"
    ):
        compare([SAME, SAME, [SAME[0], ("deqlight-sspms:sspms", "0.2.0")]])
    with pytest.raises(PluginError, match=r"rank 0 .*it has nothing where they have deqlight-sspms"):
        compare([SAME[:1], SAME, SAME])


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), True),
        (nn.Linear(2, 2), True),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), False),
        (nn.Sequential(nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True)), False),
    ],
    ids=["norms", "none", "read in training", "others"],
)
def test_what_training_may_read_is_left_to_ddp(net, expected):
    assert statistics._are_all(net) is expected


def test_a_single_process_compares_nothing(tmp_path):
    fit(tmp_path, PluginParity(SAME), enable_checkpointing=False)


@pytest.mark.parametrize(
    ("theirs", "odd"),
    [("copy.ckpt", False), ("other.ckpt", True), ("longer.ckpt", True), (None, True)],
    ids=["copy", "content", "length", "none"],
)
def test_ranks_go_on_from_the_same_checkpoint(tmp_path, monkeypatch, theirs, odd):
    for name, content in {"mine": "abc", "copy": "abc", "other": "xyz", "longer": "abcd"}.items():
        (tmp_path / f"{name}.ckpt").write_text(content)
    mine, other = tmp_path / "mine.ckpt", theirs and tmp_path / theirs
    said = []
    monkeypatch.setattr(parity, "of_all_ranks", lambda found, world: said.append(found) or said)
    CheckpointParity(mine).setup(SimpleNamespace(world_size=2), None, "fit")
    check = CheckpointParity(other)
    if odd:
        with pytest.raises(CheckpointError, match=r"rank 0 has .*mine\.ckpt; rank 1 has (.*other|.*longer|none)"):
            check.setup(SimpleNamespace(world_size=2), None, "fit")
    else:
        check.setup(SimpleNamespace(world_size=2), None, "fit")


def test_the_table_at_the_end_says_what_came_out(tmp_path):
    shown = io.StringIO()
    trainer = fit(tmp_path, Summary(Console(file=shown, width=200)), Best(), Last(), logger=True)
    for part in (
        "val/accuracy",
        "val/ece",
        "NFE forward",
        "NFE backward",
        "parameters",
        "seconds per epoch",
        "best.ckpt",
    ):
        assert part in shown.getvalue()
    trainer.test(trainer.lightning_module, datamodule=training.digits(), verbose=False)
    assert "test/accuracy" in shown.getvalue()


def test_a_fault_has_no_table(tmp_path):
    def fail(module):
        raise ZeroDivisionError

    shown = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, Summary(Console(file=shown)), training.At(2, fail), enable_checkpointing=False)
    assert shown.getvalue() == ""


def test_a_line_per_epoch(tmp_path, capsys):
    fit(tmp_path, EpochLines(), enable_checkpointing=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 1/1 (")
    assert "train/accuracy 0." in line
    assert "val/accuracy 0." in line


def test_predictions_become_a_table(tmp_path):
    trainer = training.trainer(tmp_path, Predictions(tmp_path / "out"), enable_checkpointing=False)
    trainer.predict(training.task(), datamodule=training.digits(), return_predictions=False)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 360
    assert list(rows[0])[:3] == ["ids", "classes", "probabilities_0"]
    assert sum(float(rows[0][f"probabilities_{n}"]) for n in range(10)) == pytest.approx(1.0)
