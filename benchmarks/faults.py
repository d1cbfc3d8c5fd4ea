"""Faults are injected one by one; what happens becomes a table, docs/explanation/faults.md.

Each case runs the command line in a folder of its own, most of them `resnet_digits` on a few batches, and makes
something go wrong by a signal, a damaged file, a wrong word, or the callback `Trouble` (tests/distributed/trouble.py).
The table says what was done, the exit code, the line that was printed, and which checkpoint is whole afterwards. A case
whose exit code is not the expected one makes the script fail.

    OMP_NUM_THREADS=1 python benchmarks/faults.py [--only WORD]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults_files import DAMAGE, MISTAKES, TEXTS, newest

from deqlight.cli import checkpoint
from deqlight.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "explanation" / "faults.md"
TROUBLE = ROOT / "tests" / "distributed" / "trouble.py"
SHORT = ("--trainer.limit_train_batches=6", "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0")
CPU = ("--trainer.accelerator=cpu",)
TWO = ("--trainer.devices=2", "--trainer.strategy=ddp", "--timeout=40")
NODES = ("--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp", "--timeout=15")
PATIENCE = 100
DAMAGED = "none that may be read"
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m")


@dataclass(frozen=True)
class Case:
    """A fault: what was done, how, and what must come of it."""

    what: str
    words: Sequence[str]
    code: int
    prepare: Callable[[Path], None] = lambda folder: None
    launcher: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    experiment: str = "resnet_digits"
    second: Sequence[str] | None = None
    """Words of a second process, which is another node."""
    resumed: bool = False
    """Whether the folder has a trained run already."""
    epochs: int = 2


def trouble(kind: str, rank: int = 0, phase: str = "train", step: int = 8) -> tuple[str, ...]:
    """Words for the callback; step 8 lies in the second epoch of six steps."""
    told = {"kind": kind, "phase": phase, "rank": rank, "step": step}
    options = [f"--trainer.callbacks.{name}={value}" for name, value in told.items()]
    return (f"--plugin={TROUBLE}", "--trainer.callbacks+=Trouble", *options)


def cases() -> list[Case]:
    """All of them, cheap ones last."""
    skip = ("--trainer.callbacks+=FiniteGuard", "--trainer.callbacks.policy=skip")
    step = ("--last.every_n_steps=2",)
    found = [Case(f"SIGKILL: {why}", trouble("SIGKILL", phase=phase), 137) for phase, why in PHASES.items()]
    found += [
        Case("SIGKILL: in the training, a checkpoint every 2 steps", (*trouble("SIGKILL"), *step), 137),
        Case("SIGKILL: half of a checkpoint is written", trouble("half", phase="save"), 137),
        Case("the same, TMPDIR on another file system", trouble("half", phase="save"), 137, environment=SHM),
        Case("SIGKILL of rank 1 of 2", (*trouble("SIGKILL", 1), *TWO), 75),
        Case("SIGKILL of rank 0 of 2", (*trouble("SIGKILL", 0), *TWO), 137),
        Case("SIGSTOP of rank 1 of 2, --timeout=15", (*trouble("SIGSTOP", 1), *TWO[:2], "--timeout=15"), 75),
        Case("SIGTERM to rank 1 of 2", (*trouble("SIGTERM", 1), *TWO), 143),
        Case("SIGUSR1 to rank 0 of 2", (*trouble("SIGUSR1", 0), *TWO), 138),
        Case("Ctrl-C", trouble("SIGINT"), 130),
        Case(
            "SIGKILL of rank 1, torchrun --max-restarts=1, --ckpt_path=auto",
            ("--ckpt_path=auto", *step, *trouble("SIGKILL", 1), *TWO),
            0,
            launcher=TORCHRUN,
        ),
        Case("NaN in the data of rank 1 of 2", (*trouble("nan", 1), *TWO), 4),
        Case("the same, FiniteGuard(policy=skip)", (*skip, *trouble("nan", 1), *TWO), 0),
        Case("a loss of NaN on rank 1 of 2, its gradients finite", (*trouble("loss", 1), *TWO), 4),
        Case("NaN in the data, one process", trouble("nan"), 4, experiment="neural_ode_digits"),
        Case("an exception in the backward pass of rank 1 of 2", (*trouble("backward", 1), *TWO), 75),
        Case("a plugin raises in a hook", trouble("raise"), 1),
        Case("ranks with different plugins", NODES, 2, second=(f"--plugin={TROUBLE}",)),
        Case("ranks that find different checkpoints", NODES, 2, second=RESUME, resumed=True, epochs=3),
        Case("the port of rank 0 is in use", NODES, 1, prepare=occupy, environment={"MASTER_PORT": "29713"}),
        Case("the master cannot be reached", NODES, 75, environment={"MASTER_PORT": "29714", "NODE_RANK": "1"}),
        Case("one of two nodes is not started", NODES, 75, environment={"MASTER_PORT": "29715"}),
        Case("the disk is full at the second checkpoint", (), 2, prepare=full, environment={"FULL": "1"}),
        Case("the runs cannot be written", ("--runs=/proc/runs",), 2),
        Case("the clocks differ: an older run has the newer file", RESUME, 0, prepare=skewed, resumed=True, epochs=3),
        Case("--ckpt_path=last, and there is none", RESUME, 2),
        Case("--ckpt_path=auto, and there is none", ("--ckpt_path=auto",), 0, epochs=1),
        Case("no data", ("--data.train=0",), 2, experiment="edm_points"),
        Case("batches of one sample, with BatchNorm", ("--data.batch_size=1",), 0, epochs=1),
        Case("the checkpoint of another network", OTHER, 2, resumed=True),
    ]
    for what, (make, code) in DAMAGE.items():
        found.append(Case(f"last.ckpt {what}; --ckpt_path=last", RESUME, code, prepare=make, resumed=True, epochs=3))
    found += [Case(what, words.split(), 2) for what, words in MISTAKES.items()]
    for what, text in TEXTS.items():
        found.append(Case(f"a file that is {what}", ("-c", "bad.yaml"), 2, prepare=lambda f, t=text: write(f, t)))
    return found


PHASES = {
    "setup": "before the training",
    "train": "in the training",
    "validate": "in the validation",
    "save": "before a checkpoint is written",
}
SHM = {"TMPDIR": "/dev/shm"}
RESUME = ("--ckpt_path=last",)
OTHER = ("-c", "neural_ode_digits", "--name=resnet_digits", *RESUME)


def write(folder: Path, text: str) -> None:
    """A configuration file."""
    (folder / "bad.yaml").write_text(text)


def occupy(folder: Path) -> None:
    """Listen where rank 0 would; until the end of this script."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("0.0.0.0", 29713))
    taken.listen()
    KEPT.append(taken)


KEPT: list[socket.socket] = []


def full(folder: Path) -> None:
    """A file system of little room for the runs, where this may be made; a limit on the size of files elsewhere."""
    (folder / "runs").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", str(folder / "runs")], check=True)


def skewed(folder: Path) -> None:
    """A second run, whose machine's clock is an hour behind."""
    first = folder / "runs" / "resnet_digits" / "version_0"
    shutil.copytree(first, first.with_name("version_1"))
    for path in (first.with_name("version_1") / "checkpoints").iterdir():
        os.utime(path, (time.time() - 3600,) * 2)


def run(case: Case, folder: Path) -> tuple[int, str]:
    """The exit code, and all that was said."""
    case.prepare(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **case.environment}
    fit = ["deqlight", "fit", "-c", case.experiment, *SHORT, *CPU, f"--trainer.max_epochs={case.epochs}"]
    line = [sys.executable, "-m", *case.launcher, *fit, *case.words]
    if case.second is not None:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29716"}
    both = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(line, env=environment, **both)]
    if case.second is not None:
        processes.append(subprocess.Popen([*line, *case.second], env={**environment, "NODE_RANK": "1"}, **both))
    said = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    code = processes[0].returncode
    return (128 - code if code < 0 else code), "\n".join(said)


def told(said: str) -> str:
    """The lines that matter."""
    starts = ("error:", "warning:", "stopped by", "step ", "auto:", "last:")
    lines = [line for line in said.splitlines() if line.startswith(starts)]
    return "<br>".join(dict.fromkeys(line if len(line) < 330 else f"{line[:327]}…" for line in lines))


def left(folder: Path) -> str:
    """What can be gone on from."""
    path = newest(folder)
    if path is None:
        return "no checkpoint yet"
    try:
        return f"step {checkpoint.load(path)['global_step']}"
    except CheckpointError:
        return DAMAGED


def row(case: Case, base: Path, folder: Path) -> tuple[str, bool]:
    """A line of the table, and whether it is as expected."""
    if case.resumed:
        shutil.copytree(base / "runs", folder / "runs")
    began = time.perf_counter()
    try:
        code, said = run(case, folder)
    except subprocess.TimeoutExpired:
        code, said = -1, f"error: did not end in {PATIENCE} s"
    seconds = time.perf_counter() - began
    line = told(said).replace(str(folder), "…").replace(str(ROOT), "…").replace("|", "\\|")
    good = code == case.code and (bool(case.launcher) or "Traceback" not in said)
    kept = left(folder)
    if "FULL" in case.environment:
        subprocess.run(["umount", str(folder / "runs")], check=False)
    text = f"| {case.what} | {code} | {line or '–'} | {kept} | {seconds:.0f} |"
    return text, good and (kept != DAMAGED or case.code == 2)


def main() -> None:
    """Run the cases, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of the names; the others keep their rows")
    only, bad = parser.parse_args().only, []
    rows = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        base.mkdir()
        code, said = run(Case("", (), 0), base)
        if code:
            raise SystemExit(said)
        for number, case in enumerate(c for c in cases() if only in c.what):
            folder = Path(name) / str(number)
            folder.mkdir()
            text, good = row(case, base, folder)
            rows[case.what] = text
            RESULT.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
            bad += [] if good else [f"{case.what}: expected {case.code}"]
            print(f"{'' if good else 'UNEXPECTED '}{text}", flush=True)
    there = [rows[case.what] for case in cases() if case.what in rows]
    PAGE.write_text(TEXT.format(rows="\n".join(there), count=len(there)))
    raise SystemExit("\n".join(bad) or 0)


TEXT = """\
# What happens when something goes wrong

Made by `benchmarks/faults.py`, which injects each of these {count} faults and looks at what comes of it: two epochs
of six steps, one or two processes, the fault at step 8 unless something else is said. A checkpoint is written after
each epoch, at step 6 and step 12; what is lost is what lies between the last of them and the fault. The last column is
seconds, with the start of Python, about 5. [What each exit code means](../howto/hard_days.md#exit-codes).

| done | exit code | said | last whole checkpoint | s |
|---|---|---|---|---|
{rows}
"""

if __name__ == "__main__":
    main()
