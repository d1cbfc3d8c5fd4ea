"""Station 1, a trained network without a trainer: `deqlight.load`, from a checkpoint or from what `export` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from torch import nn

from ..data import Batch
from ..errors import ConfigError
from ..plugin.manager import host as load_host
from ..tasks.evaluation import Evaluation
from . import checkpoint, weights
from .app import BELIEVED, Experiment
from .line import Line
from .parts import Parts
from .quiet import hush
from .start import import_choices, prepare

__all__ = ["Trained", "described", "load", "network_and_batch"]


def load(path: str | Path, *, plugins: Sequence[str | Path] = (), trust: bool = False) -> nn.Module:
    """The network of a checkpoint or of an export, with its trained weights: no trainer, no data, no command line.

    >>> import deqlight
    >>> net = deqlight.load("runs/resnet_digits/version_0/checkpoints/best.ckpt")  # doctest: +SKIP

    It is built from the configuration that the file holds, which may name what is in deqlight, in torch's networks and
    optimisers, and in plugins, and nothing else; the weights are read as numbers, so that no code in the file is run.

    Args:
        path: a `.ckpt`, a `.safetensors` that `deqlight export` wrote, or the folder of one.
        plugins: files of plugins that its classes come from; installed plugins need not be named.
        trust: believe the configuration whatever it imports, if you know who made the file.

    Returns:
        The task's network, on the CPU and in evaluation mode; for a task of a plugin that has none, the task.

    Raises:
        CheckpointError: for a file that is missing, damaged, of another network, or names what is not to be believed.
        ConfigError: for a configuration that this version cannot read.
    """
    import_choices()
    hush()
    host = load_host(*map(Path, plugins))
    line = Line("load", (), tuple(map(str, plugins)), ("--device=cpu",), frozenset({"trust"} if trust else ()))
    found = weights.find(Path(path))
    if found.suffix == weights.ENDING:
        state, told = weights.read(found)
        config = {key: told["config"][key] for key in BELIEVED if key in told["config"]}
        if not trust:
            checkpoint.believe(config, found, checkpoint.packages(host))
        return Trained(Experiment(line, host, [], [], str(told.get("name")), config, None), found, state).network
    experiment = prepare(line.put("--ckpt_path", str(found)), host)
    return Trained(experiment, found, None).network


class Trained(Parts):
    """The task of an experiment with trained weights.

    Args:
        experiment: what it was trained as.
        path: where the weights come from; errors name it.
        state: the weights; None takes the checkpoint's.
        options: those of a command.

    Raises:
        CheckpointError: for weights of another network.
        ConfigError: for a configuration that cannot be.
    """

    def __init__(
        self, experiment: Experiment, path: Path, state: dict[str, Any] | None, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(experiment, options or {})
        self.path = path
        settings = self.settings.clone()
        settings.pop("data", None)  # the network is all: its data may lie on another machine
        with torch.random.fork_rng(devices=[]):
            self.task: L.LightningModule = self.parser.instantiate_classes(settings)["model"]
        self.fill(self.task, path, state)
        self.task.eval()

    @property
    def network(self) -> nn.Module:
        """The task's network."""
        return self.task.net if isinstance(self.task, Evaluation) else self.task

    def batch(self) -> Batch:
        """The first batch of the test part."""
        return _first(self.data("test"))


def network_and_batch(line: Line) -> tuple[nn.Module, Any]:
    """The network of an experiment, trained or not, and the inputs of a batch.

    Raises:
        ConfigError: for an experiment that cannot be, or has no network that is called with its inputs.
    """
    import_choices()
    hush()
    kept = ("--runs", "--compile")
    rest = tuple(f"{option}={value}" for option, value in line.options() if option not in kept)
    parts = Parts(prepare(Line(line.command, line.configs, line.plugins, rest, line.flags), load_host()), {})
    task = parts.parser.instantiate_classes(parts.settings)["model"]
    inputs = _first(parts.data("test")).inputs
    if not isinstance(task, Evaluation) or not isinstance(inputs, torch.Tensor):
        raise ConfigError(f"the network of {type(task).__name__} is not called with a batch of its data alone")
    return task.net.eval(), inputs


def _first(data: L.LightningDataModule) -> Batch:
    batch: Batch = next(iter(data.test_dataloader()))
    return batch


def described(trained: Trained) -> dict[str, Any]:
    """What an export says of itself: the sections of the configuration that a network is built from, and its name."""
    plain = yaml.safe_load(trained.parser.dump(trained.settings, skip_none=False))
    return {"name": trained.experiment.name, "config": {key: plain[key] for key in BELIEVED if key in plain}}
