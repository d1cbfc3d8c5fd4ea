"""Station: what runs beside the training. What a run was made of, and what came of it, in one file of its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from ..solution import Stats
from .agreement import of_all_ranks
from .checkpoints import Stopped
from .origin import machine, versions
from .stamp import STAMP
from .writing import put

__all__ = ["MANIFEST", "Manifest"]

MANIFEST = "manifest.json"
RUN = "run"
"""The key in a checkpoint's stamp under which lies what a resumed run is compared with."""


EVERY = 10
"""Of so many batches one is looked at, where nothing is logged."""


class Manifest(L.Callback):
    """Writes `manifest.json` when `fit` begins and when it ends, and the part that does not change into checkpoints.

    It holds the resolved configuration; plugins, machine and versions of every rank; seed, world size and effective
    batch (samples of one optimiser step: batch × ranks × accumulated batches); and at the end how it ended, the last
    metrics, and what solves cost. A run that goes on from a checkpoint with another effective batch or number of ranks
    is told so in a line: its steps are no longer those of the run that it goes on from.

    Args:
        config: the configuration as plain values.
        plugins: (name, version) of the active plugins of this process.
        version: deqlight's own.
    """

    def __init__(self, config: Mapping[str, Any], plugins: Sequence[tuple[str, str]], version: str) -> None:
        self._config, self._version = dict(config), version
        self._plugins = [list(pair) for pair in plugins]
        self._then: Mapping[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._folder: Path | None = None
        self._costs = _Costs()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the checkpoint says of its run until this one's ranks and batches are known."""
        self._then = checkpoint.get(STAMP, {}).get(RUN, {})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather what the ranks say of themselves, and write it."""
        folder = trainer.log_dir  # asks all ranks: every rank must come here
        ranks = gathered(trainer, {**machine(pl_module.device), "plugins": self._plugins, **self._versions()})
        self._told = {
            "status": "running",
            "started": _now(),
            "resumed": trainer.global_step,
            **self._run(trainer),
            "config": self._config,
            "plugins": self._plugins,
            "ranks": ranks,
        }
        if trainer.loggers and folder:
            self._folder = Path(folder)
        _tell_changes(self._then, self._told)
        self._write()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count steps, of one batch in so many as are logged: tasks of deqlight show what their solves cost."""
        if batch_idx % max(1, vars(trainer).get("log_every_n_steps") or EVERY) == 0:
            self._costs.add(getattr(pl_module, "solves", ()))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add to the stamp what a run that goes on from here is compared with."""
        checkpoint[STAMP] = {**checkpoint.get(STAMP, {}), RUN: self._run(trainer)}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what came out."""
        self._end(trainer, "finished")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write how far it came, and why no further."""
        if self._told:
            asked = isinstance(exception, (Stopped, KeyboardInterrupt))
            self._told["reason"] = f"{type(exception).__name__}: {exception}".splitlines()[0]
            self._end(trainer, "stopped" if asked else "failed")

    def _end(self, trainer: L.Trainer, status: str) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        best = vars(trainer.checkpoint_callback or self)
        score = best.get("best_model_score")
        self._told |= {
            "status": status,
            "ended": _now(),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "metrics": metrics,
            "best": None if score is None else {"metric": best["monitor"], "score": float(score)},
            "solver": {
                "NFE forward": metrics.get("nfe/forward"),
                "NFE backward": metrics.get("nfe/backward"),
                **self._costs.means(),
            },
        }
        self._write()

    def _run(self, trainer: L.Trainer) -> dict[str, Any]:
        """What is the same at every moment of a run."""
        size, accumulated = batch_size(trainer), trainer.accumulate_grad_batches
        effective = None if size is None else size * trainer.world_size * accumulated
        batch = {"size": size, "ranks": trainer.world_size, "accumulated": accumulated, "effective": effective}
        seed = self._config.get("seed_everything")
        return {"seed": seed, "world_size": trainer.world_size, "batch": batch, **self._versions()}

    def _versions(self) -> dict[str, Any]:
        return {"versions": versions(self._version)}

    @rank_zero_only
    def _write(self) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            put(self._folder / MANIFEST, json.dumps(self._told, indent=1, ensure_ascii=False, default=str) + "\n")


class _Costs:
    """Means over the batches that were looked at, per sample and summed over the solves of a forward pass."""

    def __init__(self) -> None:
        self.batches, self.steps, self.rejected = 0, 0.0, 0.0

    def add(self, solves: Sequence[Stats]) -> None:
        """Count the solves of a batch; none says nothing."""
        if solves:
            self.batches += 1
            self.steps += sum(float(stats.accepted.float().mean()) for stats in solves)
            self.rejected += sum(float(stats.rejected.float().mean()) for stats in solves)

    def means(self) -> dict[str, float | int | None]:
        """Steps taken and thrown away; None where no batch told."""
        n = self.batches
        steps, rejected = (self.steps / n, self.rejected / n) if n else (None, None)
        return {"steps": steps, "rejected": rejected, "batches looked at": n}


def batch_size(trainer: L.Trainer) -> int | None:
    """Samples of a training batch on one rank; None where the loader does not say."""
    loader = trainer.train_dataloader
    sampler = getattr(loader, "batch_sampler", None)
    found = getattr(loader, "batch_size", None) or getattr(sampler, "batch_size", None)
    return found if isinstance(found, int) else None


def gathered(trainer: L.Trainer, mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What each rank says, in order."""
    return [{"rank": rank, **one} for rank, one in enumerate(of_all_ranks(mine, trainer.world_size))]


@rank_zero_only
def _tell_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """One line where a resumed run takes other steps than the one that it goes on from."""
    pairs = {
        "effective batch": (then.get("batch", {}).get("effective"), now["batch"]["effective"]),
        "ranks": (then.get("world_size"), now["world_size"]),
    }
    known = {name: pair for name, pair in pairs.items() if None not in pair}
    told = [f"{name} {new} now, {old} then" for name, (old, new) in known.items() if old != new]
    if told:
        text = f"warning: not as the checkpoint was trained: {', '.join(told)}; its learning rate was chosen for that"
        print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own voice


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
