"""Weights, gradients and the optimiser's numbers shared out among two processes: the training of DDP, and its files."""

import csv
from pathlib import Path

import pytest
import torch
from processes import DDP, finish, start

SHARDED = """
trainer:
  accelerator: cpu
  devices: 2
  strategy:
    class_path: lightning.pytorch.strategies.ModelParallelStrategy
    init_args: {data_parallel_size: 2, tensor_parallel_size: 1, save_distributed_checkpoint: false,
                process_group_backend: gloo}
"""

SHORT = ("--trainer.max_epochs=2", "--data.train=256", "--data.val=64", "--data.test=32")
FLOAT32 = 1e-5  # sums over the ranks in another order, through sixteen steps


def test_it_is_the_training_of_ddp_with_steps_that_differ_on_the_ranks(tmp_path):
    (tmp_path / "sharded.yaml").write_text(SHARDED)
    runs = {"one": DDP, "sharded": ("-c", "sharded.yaml")}
    for name, words in runs.items():
        code, said = finish(start(tmp_path, "fit", "-c", "anode_reflection", *words, *SHORT, f"--name={name}"))
        assert code == 0, said
    one, sharded = (
        torch.load(tmp_path / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True) for name in runs
    )
    assert one["state_dict"].keys() == sharded["state_dict"].keys() and one["global_step"] == sharded["global_step"] > 4
    for name, weight in one["state_dict"].items():
        assert torch.allclose(weight, sharded["state_dict"][name], rtol=0, atol=FLOAT32), name
    code, said = finish(start(tmp_path, "test", "--ckpt_path", "runs/sharded/version_0/checkpoints/last.ckpt"))
    assert code == 0 and "test/rmse" in said, said


@pytest.mark.slow
def test_a_failure_on_one_rank_stops_both_where_gradients_do_not_carry_it(tmp_path):
    """A rank has a part of them alone, so that the ranks compare notes before they go back."""
    (tmp_path / "sharded.yaml").write_text(SHARDED)
    plugin = Path(__file__).with_name("trouble.py")
    words = (f"--plugin={plugin}", "--trainer.callbacks+=Trouble", "--trainer.callbacks.kind=nan", *SHORT)
    code, said = finish(start(tmp_path, "fit", "-c", "anode_reflection", "-c", "sharded.yaml", *words))
    assert code == 4, said
    for rank in range(2):
        assert f"error: on rank {rank}: rank 1, batch 3 of epoch 0, ids [" in said, said


EMA = ("--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9")


@pytest.mark.parametrize("more", [(), pytest.param(EMA, marks=pytest.mark.slow)], ids=["plain", "averaged"])
def test_ranks_validate_with_the_running_statistics_that_the_checkpoint_has(tmp_path, more):
    """BatchNorm in the network: without agreement each rank scores its share with statistics of its own."""
    words = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=8", "--trainer.num_sanity_val_steps=0", *more)
    code, said = finish(start(tmp_path, "fit", "-c", "resnet_digits", *DDP, *words))
    assert code == 0, said
    rows = list(csv.DictReader((tmp_path / "runs/resnet_digits/version_0/metrics.csv").open()))
    together = next(float(row["val/loss"]) for row in rows if row["val/loss"])
    code, said = finish(start(tmp_path, "validate", "--ckpt_path", "last"))
    assert code == 0, said
    (row,) = csv.DictReader(next(tmp_path.glob("runs/resnet_digits/version_0/validate/version_0/metrics.csv")).open())
    assert float(row["val/loss"]) == pytest.approx(together, rel=1e-5)


USUAL = """
import lightning as L
from deqlight.plugin import impl

class Usual(L.Callback):
    def on_train_batch_start(self, trainer, *rest):
        trainer.model.broadcast_buffers = True

@impl
def deqlight_costs():
    return []
"""


@pytest.mark.slow
def test_running_statistics_are_those_of_buffers_handed_out_before_each_batch(tmp_path):
    """To the last bit, of weights, statistics and what validation makes of them."""
    (tmp_path / "usual.py").write_text(USUAL)
    words = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=5", "--trainer.val_check_interval=2")
    runs = {"ours": (), "usual": ("--plugin=usual.py", "--trainer.callbacks+=Usual")}
    rows = []
    for name, more in runs.items():
        code, said = finish(start(tmp_path, "fit", "-c", "resnet_digits", *DDP, *words, f"--name={name}", *more))
        assert code == 0, said
        found = csv.DictReader((tmp_path / f"runs/{name}/version_0/metrics.csv").open())
        rows.append([row["val/loss"] for row in found if row["val/loss"]])
    ours, usual = (
        torch.load(tmp_path / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in runs
    )
    assert any("running_mean" in name for name in ours)
    assert all(torch.equal(value, usual[name]) for name, value in ours.items())
    assert rows[0] == rows[1] and len(rows[0]) == 4
