"""Two processes train an SDE-Net, with its two optimisers and plain DDP, to the weights of one process."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
ROUNDING = 1e-9  # float64: sums in another order; other noise, or other samples, change weights by 1e-2
PATIENCE = 120  # seconds; two starts take 10 on an idle machine
SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=6", "--trainer.limit_val_batches=1")


def trained(folder, name, *words):
    command = [sys.executable, "-m", "deqlight", "fit", "-c", "sde_net_moons", "--name", name, *SHORT, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--trainer.accelerator=cpu", "--trainer.precision=64-true"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = folder / "runs" / name / "version_0" / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def test_two_processes_train_as_one(tmp_path):
    alone = trained(tmp_path, "alone", "--data.batch_size=32")
    ddp = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=16")
    together = trained(tmp_path, "together", *ddp)
    weights = [name for name in alone if name.startswith("net.")]
    assert max((alone[name] - together[name]).abs().max().item() for name in weights) < ROUNDING
