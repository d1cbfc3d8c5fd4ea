"""Station 1, the experiment: from the sorted command line to a running trainer. The first module that imports torch."""

from __future__ import annotations

import gc
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities import rank_zero_only

from ..callbacks import SIGNALS, Stopped
from ..errors import CheckpointError, ConfigError
from ..plugin.host import Host
from ..plugin.manager import host as load_host
from . import checkpoint, experiments, quiet, runs, watch
from .app import BELIEVED, RESUMED, App, Experiment
from .line import Line
from .requeue import requeue

__all__ = ["import_choices", "launch", "prepare", "prepare_trained", "start"]

ASKING = [number for number in SIGNALS if number != signal.SIGINT]


def start(line: Line) -> int:
    """Run `fit`, `validate`, `test` or `predict`; returns the exit code.

    Raises:
        DeqlightError: for whatever is wrong with the request.
    """
    try:
        launch(line)
    except Stopped as stop:
        _tell_resume(stop, line)
        # A launched rank that ends with an error makes the launcher kill the first rank; this end was agreed upon.
        return 0 if runs.is_child() else int(stop.code or 0)
    return 0


def launch(line: Line) -> App:
    """Run `fit`, `validate`, `test` or `predict`; returns what has run: trainer, task and data.

    Raises:
        DeqlightError: for whatever is wrong with the request.
        Stopped: where a signal ended the training.
    """
    import_choices()
    quiet.hush()
    runs.forget()
    vars(subprocess_script)["_launch_process_observer"] = watch.watch
    watch.watch_parent()
    before = {number: signal.signal(number, _terminate) for number in ASKING}
    try:
        host = load_host(*map(Path, line.plugins))
        gc.freeze()  # some 400,000 objects stay; to walk through them takes 0.2 s, in which the other ranks would wait
        return App(prepare(line, host))
    finally:
        gc.unfreeze()
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare(line: Line, host: Host) -> Experiment:
    """Read the files that a command line names, and find its checkpoint.

    Raises:
        ConfigError: for a configuration that cannot be found or read.
        CheckpointError: for a checkpoint that cannot.
    """
    paths = [experiments.locate(given, host) for given in line.configs]
    configs = [experiments.load(path) for path in paths]
    settings: dict[str, Any] = {}
    for config in configs:
        settings.update(config)
    named = [path for path, config in zip(paths, configs, strict=True) if {*config} != {"trainer"}] or paths
    asked = line.value("--name") or settings.get("name") or (named[-1].stem if named else None)
    given = line.value("--ckpt_path") or settings.get("ckpt_path")
    if "help_all" in line.flags:
        return Experiment(replace(line, rest=("--help",)), host, configs, paths, "run", {}, None)
    if given in (None, "null"):
        return Experiment(line, host, configs, paths, asked or "run", {}, None)
    path = Path(given).expanduser()
    root = Path(line.value("--runs") or settings.get("runs") or "runs")
    if given == checkpoint.AUTO:
        _check_auto(line)
        if not checkpoint.candidates("last", root, asked):
            _say(
                f"{given}: there is no checkpoint of {asked or 'any experiment'} in {root}, so that the training starts"
            )
            return Experiment(line.put("--ckpt_path", "null"), host, configs, paths, asked or "run", {}, None)
    if given in (checkpoint.AUTO, *checkpoint.KEYWORDS):
        word = "last" if given == checkpoint.AUTO else given
        path = runs.shared("checkpoint", lambda: checkpoint.sound(word, root, asked, _say).absolute())
        _say(f"{given}: {path}")
    elif "://" in given:
        raise CheckpointError(
            f"checkpoint {given} lies elsewhere; download it, look at where it comes from, then give its path"
        )
    stamp = _stamped(line, path, host, configs)
    name = asked or stamp.pop("name", None) or "run"
    return Experiment(line.put("--ckpt_path", str(path)), host, configs, paths, name, stamp, path)


def prepare_trained(line: Line) -> Experiment:
    """The experiment of a checkpoint, for commands that train nothing.

    Raises:
        ConfigError: without a checkpoint, and as from `prepare`.
        CheckpointError: as from `prepare`.
    """
    import_choices()
    quiet.hush()
    runs.forget()
    experiment = prepare(line, load_host(*map(Path, line.plugins)))
    if experiment.source is None:
        raise ConfigError(
            f"deqlight {line.command} needs a trained network: --ckpt_path FILE, or -c EXPERIMENT --ckpt_path last"
        )
    return experiment


def _stamped(line: Line, path: Path, host: Host, configs: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of a checkpoint's own configuration that this command uses, and the run's name."""
    found = checkpoint.stamp(path)
    if found is None:
        if not any("model" in config for config in configs) and line.value("--model") is None:
            raise CheckpointError(
                f"checkpoint {path} does not say what it was trained with; name an experiment with -c"
            )
        return {}
    keys = RESUMED if line.command == "fit" else BELIEVED
    config = {key: found["config"][key] for key in keys if key in found["config"]}
    if "trust" not in line.flags:
        checkpoint.believe(config, path, checkpoint.packages(host))
    return {**config, "name": found["config"].get("name")}


def _check_auto(line: Line) -> None:
    """Refuse the word for a command that has nothing to begin.

    Raises:
        ConfigError: naming the words it takes.
    """
    if line.command != "fit":
        raise ConfigError(
            f"--ckpt_path auto is for deqlight fit, which may begin afresh; {line.command} takes last or best"
        )


def import_choices() -> None:
    """Import what a configuration can name by its class alone: a class is found only once it is there."""
    from .. import data, nets, tasks  # noqa: F401


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Before and after the training proper, a signal ends the process with the code that schedulers expect."""
    raise SystemExit(128 + number)


@rank_zero_only
def _tell_resume(stop: Stopped, line: Line) -> None:
    if stop.signal.name == "SIGUSR1":
        told = requeue()
        if told:
            _say(told)
    if stop.path is None:
        return
    again = "".join(f" --plugin {path}" for path in line.plugins)
    _say(
        f"stopped by {stop.signal.name} after step {stop.step}; go on with: deqlight fit{again} --ckpt_path {stop.path}"
    )


@rank_zero_only
def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own voice
