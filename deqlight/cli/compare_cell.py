"""Station 1, the comparison: one cell, in a process of its own. `deqlight fit`, `deqlight test`, and what they cost.

`python -m deqlight.cli.compare_cell ORDER` is what `deqlight compare` starts; nobody else needs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..callbacks import Best, Last, Summary
from ..errors import CheckpointError
from ..plugin.manager import host as load_host
from ..testing.timing import machine
from . import runs
from .app import App
from .bench_plan import Choice, Plan
from .bench_rows import prepared, weighed
from .compare_store import put
from .line import Line, read
from .main import guarded
from .start import launch, prepare

__all__ = ["CUDA", "KEPT", "cell"]

KEPT, CUDA = "kept for backward", "CUDA peak"
"""What is called memory: of tensors kept for the backward pass of one training step, or the most that CUDA gave out
in the whole training, weights and optimiser included."""
MIB = 2**20


def cell(order: dict[str, Any]) -> int:
    """Train, test, and write what came out to the file that the order names.

    Args:
        order: `config`, `seed`, `runs`, `name`, `plugins`, `result`.

    Raises:
        DeqlightError: for whatever is wrong.
    """
    plugins = tuple(order["plugins"])
    words = ["-c", order["config"], f"--seed_everything={order['seed']}", f"--runs={order['runs']}"]
    words += [f"--name={order['name']}", *(f"--plugin={path}" for path in plugins)]
    fitted = launch(read(["fit", *words]))
    device = fitted.trainer.strategy.root_device
    peak = torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None
    path, which = _checkpoint(fitted)
    tested = launch(read(["test", *words, f"--ckpt_path={path}"]))
    if runs.is_child():
        return 0  # the first rank has the numbers
    found = {
        "metrics": {name: float(value) for name, value in tested.trainer.callback_metrics.items()},
        "parameters": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad),
        "checkpoint": str(path),
        "checkpoint is": which,
        "device": str(device),
        "machine": machine(),
        **_paced(fitted),
        **(_weighed(path, plugins) if peak is None else {"memory": peak, "memory is": CUDA}),
    }
    put(Path(order["result"]), json.dumps(found))
    return 0


def _checkpoint(fitted: App) -> tuple[Path, str]:
    """The best checkpoint, or the last where none is best."""
    callbacks = getattr(fitted.trainer, "callbacks")  # noqa: B009
    best = [Path(one.best_model_path) for one in callbacks if isinstance(one, Best) and one.best_model_path]
    last = [Path(str(one.dirpath)) / "last.ckpt" for one in callbacks if isinstance(one, Last)]
    for which, paths in (("best", best), ("last", last)):
        for path in paths:
            if path.is_file():
                return path, which
    raise CheckpointError("the training left no checkpoint to test; it needs one epoch at least")


def _paced(fitted: App) -> dict[str, Any]:
    """Seconds of an epoch: the median, without the first, in which much is done once, where there are more."""
    callbacks = getattr(fitted.trainer, "callbacks")  # noqa: B009
    epochs = [seconds for one in callbacks if isinstance(one, Summary) for seconds in one.epochs]
    return {"epochs": len(epochs), "seconds per epoch": median(epochs[1:] or epochs) if epochs else None}


def _weighed(path: Path, plugins: tuple[str, ...]) -> dict[str, Any]:
    """The bytes that a training step on the first batch keeps, with the trained weights; or why they are not known."""
    line = Line("bench", (), plugins, (f"--ckpt_path={path}", "--device=cpu"), frozenset({"trust"}))
    try:
        plan = Plan(prepare(line, load_host(*map(Path, plugins))))
        memory = weighed(*prepared(plan, plan.task(Choice()), plan.batch()))
    except Exception as error:  # such as a task that steps by itself: the cell is trained and tested all the same
        return {"memory": None, "memory is": KEPT, "memory failed": f"{type(error).__name__}: {error}"[:300]}
    return {"memory": None if memory is None else memory.kept_mib, "memory is": KEPT}


def _end_with_parent() -> None:
    """End when the process that started this one is gone: its end of the pipe closes, however it ended."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock this thread would hold at the end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(guarded(lambda: cell(json.loads(sys.argv[1])), debug=True))
