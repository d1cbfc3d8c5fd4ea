"""The command line in processes of its own, as tests of several ranks run it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

DDP = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
PATIENCE = 120  # seconds; two starts take 10 on an idle machine


def free_port():
    """One that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *words, prefix=(), launcher=(), **environment):
    """Begin a command in a folder, behind another command or by a module that launches it; one thread a process."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    command = [*prefix, sys.executable, "-m", *launcher, "deqlight", *words]
    return subprocess.Popen(command, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, patience=PATIENCE):
    """Its exit code, and all that it said."""
    try:
        out, err = process.communicate(timeout=patience)
    finally:
        process.kill()
    return process.returncode, out + err
