"""What goes wrong on one rank ends on all of them, soon, with a line and a code; or costs all of them one step."""

import signal
import time
from pathlib import Path

import pytest
import torch
from processes import DDP, finish, free_port, start

from deqlight.cli.meeting import agree
from deqlight.cli.requeue import requeue

HERE = Path(__file__).parent
SHORT = ("--trainer.limit_train_batches=6", "--trainer.limit_val_batches=1", "--trainer.max_epochs=2")
PATIENCE = 90  # seconds; two starts take 10 on an idle machine


def trouble(folder, kind, *words, experiment="resnet_digits", launcher=(), guard=(), **options):
    """Run it, with trouble; returns the exit code and what was said."""
    told = [f"--trainer.callbacks.{name}={value}" for name, value in {"kind": kind, **options}.items()]
    line = ["fit", "-c", experiment, *guard, f"--plugin={HERE / 'trouble.py'}", "--trainer.callbacks+=Trouble", *told]
    return finish(start(folder, *line, *SHORT, *DDP, *words, launcher=launcher), PATIENCE)


def last(folder, version=0):
    path = folder / f"runs/resnet_digits/version_{version}/checkpoints/last.ckpt"
    return torch.load(path, weights_only=True)


def test_a_solve_that_fails_on_one_rank_stops_both_and_both_say_where(tmp_path):
    code, said = trouble(tmp_path, "nan", experiment="neural_ode_digits")
    assert code == 4, said
    for rank in range(2):
        assert f"error: on rank {rank}: rank 1, batch 3 of epoch 0, ids [" in said, said
    assert "Traceback" not in said and "samples = [1]" in said


@pytest.mark.slow
def test_a_loss_that_is_nan_with_gradients_that_are_not_stops_both(tmp_path):
    """The gradients carry the news."""
    code, said = trouble(tmp_path, "loss")
    assert code == 4, said
    for rank in range(2):
        assert f"error: on rank {rank}: rank 1, batch 3 of epoch 0, ids [" in said, said
    assert "the loss became nan in training" in said


@pytest.mark.slow
def test_a_part_of_a_step_that_fails_stops_both_at_the_step(tmp_path):
    """Gradients are averaged with the last part, and carry what the first one met."""
    words = ("--trainer.accumulate_grad_batches=3",)
    code, said = trouble(tmp_path, "nan", *words, experiment="neural_ode_digits", step=1)
    assert code == 4, said
    for rank in range(2):
        assert f"error: on rank {rank}: rank 1, batch 3 of epoch 0, ids [" in said, said


@pytest.mark.slow
def test_the_step_is_skipped_on_both(tmp_path):
    guard = ("--trainer.callbacks+=FiniteGuard", "--trainer.callbacks.policy=skip")
    code, said = trouble(tmp_path, "nan", guard=guard)
    assert code == 0, said
    assert said.count("step 3 skipped, 1 of at most 10: rank 1, batch 3") == 1
    state = last(tmp_path)
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert [value["skipped"] for name, value in state["callbacks"].items() if "FiniteGuard" in name] == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rank", "code"), [("SIGTERM", 1, 143), ("SIGUSR1", 0, 138), ("SIGUSR1", 1, 138)], ids=str
)
def test_a_signal_to_any_rank_stops_both_with_a_checkpoint(tmp_path, kind, rank, code):
    found, said = trouble(tmp_path, kind, rank=rank)
    assert found == code, said
    assert f"stopped by {kind} after step 4" in said and last(tmp_path)["global_step"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_kill_ends_the_other_with_a_line(tmp_path, rank):
    code, said = trouble(tmp_path, "SIGKILL", rank=rank)
    assert code == (-signal.SIGKILL if rank == 0 else 75), said
    assert f"error: on rank {1 - rank}: another rank has ended" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_rank_that_stands_still_is_waited_for_as_long_as_was_said(tmp_path):
    began = time.monotonic()
    code, said = trouble(tmp_path, "SIGSTOP", "--timeout=15")  # the ranks must come together in it, too
    assert code == 75 and "did not answer in time" in said, said
    assert time.monotonic() - began < 15 + PATIENCE / 2


@pytest.mark.slow
def test_a_failure_in_the_backward_pass_ends_both(tmp_path):
    code, said = trouble(tmp_path, "backward")
    assert code == 75, said
    assert "on rank 1: ZeroDivisionError: a fault in the backward pass" in said


@pytest.mark.slow
def test_what_failed_here_is_said_though_the_other_rank_is_lost(tmp_path):
    """The other one ends in the backward pass in which it would have been told."""
    also = ("--trainer.callbacks+=Trouble", "--trainer.callbacks.kind=nan", "--trainer.callbacks.rank=0")
    code, said = trouble(tmp_path, "backward", *also, experiment="neural_ode_digits")
    assert code == 75 and "error: rank 0, batch 3 of epoch 0, ids [" in said, said


@pytest.mark.slow
def test_torchrun_goes_on_from_the_last_checkpoint(tmp_path):
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m")
    words = ("--ckpt_path=auto", "--last.every_n_steps=2", "--timeout=30")
    code, said = trouble(tmp_path, "SIGKILL", *words, launcher=launcher, step=5)
    assert code == 0, said
    assert said.count("auto: there is no checkpoint of resnet_digits") == 1 and "Restored all states" in said
    assert [path.name for path in sorted((tmp_path / "runs/resnet_digits").iterdir())] == ["version_0", "version_1"]
    assert last(tmp_path)["global_step"] == 4 and last(tmp_path, 1)["global_step"] == 12


@pytest.mark.slow
def test_ranks_that_found_different_checkpoints_do_not_begin(tmp_path):
    short = ("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu")
    for epochs in (1, 2):
        code, said = finish(start(tmp_path, "fit", "-c", "resnet_digits", *short, f"--trainer.max_epochs={epochs}"))
        assert code == 0, said
    paths = [f"runs/resnet_digits/version_{number}/checkpoints/last.ckpt" for number in range(2)]
    nodes = ("--trainer.devices=1", "--trainer.num_nodes=2", "--trainer.strategy=ddp", "--trainer.max_epochs=4")
    port = str(free_port())
    for others, codes in (([paths[0], paths[1]], [2, 2]), ([paths[0], "null"], [2, 2]), ([paths[1]] * 2, [0, 0])):
        ranks = [
            start(
                tmp_path,
                *("fit", "-c", "resnet_digits", *short, *nodes, f"--ckpt_path={path}"),
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": str(rank)},
            )
            for rank, path in enumerate(others)
        ]
        ended = [finish(rank) for rank in ranks]
        assert [code for code, _ in ended] == codes, ended
        for _, said in ended if any(codes) else []:
            assert "the ranks would go on from different checkpoints: rank 0 has " in said, said


def test_a_rank_does_not_take_the_word_of_the_dead():
    """The first rank of an attempt before has answered a rank that then died; both come again."""
    from concurrent.futures import ThreadPoolExecutor
    from datetime import timedelta

    store, patience = torch.distributed.HashStore(), timedelta(seconds=20)
    names = []
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda rank: agree(store, rank, 2, patience), range(2)))
        assert found[0] == found[1]
        names += found[:1]
    assert len(set(names)) == 3


def test_slurm_is_asked_to_run_the_job_again(tmp_path, monkeypatch):
    assert requeue({}) == requeue({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash"}) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "job 7 is not in the queue again" in requeue({"SLURM_JOB_ID": "7"})
    script = tmp_path / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    script.chmod(0o755)
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    assert requeue(array) == "job 5_2 is in the queue again"
    assert (tmp_path / "asked").read_text() == "requeue 5_2\n"
