"""Station 1, the experiment without a trainer: task, data and checkpoint, for commands that train nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # it gathers its names as it runs
from torch import nn

from ..errors import CheckpointError, ConfigError
from ..plugin.host import Host
from ..solvers import Solver
from ..terms import Term
from . import checkpoint, runs
from .app import BELIEVED, Experiment
from .line import Line
from .parser import Parser, Rejected, explain
from .proofread import Reader

__all__ = ["Parts"]


class Parts:
    """An experiment's network, data and loss, without a trainer, and the options of a command of its own.

    Args:
        experiment: what the command line asks for.
        options: the command's own options and their defaults; None is a text that need not be given.
        kinds: those that name a class, by its base.

    Raises:
        ConfigError: saying in one line what is wrong with it.
    """

    short: tuple[str, ...] = ()
    """Options that the command takes under another name than the parser's."""

    def __init__(self, experiment: Experiment, options: dict[str, Any], kinds: dict[str, type] | None = None) -> None:
        self.experiment, self.kinds = experiment, kinds or {}
        self.parser = Parser(allow_abbrev=False)
        self.parser.add_argument("--config", action=ActionConfigFile)
        self.parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
        self.parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        self.parser.add_argument("--seed_everything", type=bool | int, default=0)
        for option in ("--ckpt_path", "--name", "--runs"):
            self.parser.add_argument(option, type=str, default=None)
        self.parser.add_argument("--device", type=str, default="cuda" if torch.cuda.is_available() else "cpu")
        for option, default in options.items():
            kind = str if default is None else type(default)
            self.parser.add_argument(f"--{option}", type=kind, default=default)
        for option, base in self.kinds.items():
            self.parser.add_subclass_arguments(base, option, required=False)
        sections = (experiment.stamp, *experiment.configs)
        self.configs = [{key: config[key] for key in BELIEVED if key in config} for config in sections]
        self.settings = self.parsed(self.parser, self._files(), experiment.line)
        self.device = self._device()

    @property
    def host(self) -> Host:
        """The plugins."""
        return self.experiment.host

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.settings["seed_everything"])

    def data(self, stage: str) -> L.LightningDataModule:
        """The experiment's data, made ready for a stage, `fit` or `test`."""
        torch.manual_seed(self.seed)
        data: L.LightningDataModule = self.parser.instantiate_classes(self.settings)["data"]
        data.prepare_data()
        data.setup(stage)
        return data

    def folder(self) -> Path:
        """A new folder for what the command writes, below the run whose checkpoint it takes, or that of the name."""
        source, command = self.experiment.source, str(self.experiment.line.command)
        if source is not None and source.parent.name == "checkpoints":
            return runs.next_folder(source.parent.parent, command)
        return runs.next_folder(Path(self.settings["runs"] or "runs") / self.experiment.name, command)

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Those of the checkpoint; none without one."""
        return dict(self.content.get("state_dict", {}))

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that the checkpoint holds; nothing without one."""
        source = self.experiment.source
        return {} if source is None else checkpoint.load(source)

    def fill(self, task: nn.Module, path: Path | None, state: dict[str, Any] | None = None) -> None:
        """Give a task its trained weights, those of the checkpoint or others.

        Args:
            task: the task.
            path: where the weights come from; errors name it.
            state: the weights; None takes the checkpoint's.

        Raises:
            CheckpointError: for weights of another network.
        """
        try:
            task.load_state_dict(self.weights if state is None else state)
        except RuntimeError as error:
            told = " ".join(str(error).partition(":\n")[2].split()) or str(error)
            raise CheckpointError(f"{path} is of another network: {told[:300]}") from error

    def parsed(self, parser: Parser, first: Sequence[str], line: Line, rest: Sequence[str] | None = None) -> Any:
        """What a parser makes of these words, and then those of the line or `rest`.

        Raises:
            ConfigError: saying in one line what is wrong.
        """
        try:
            return parser.parse_args([*first, *(line.rest if rest is None else rest)])
        except Rejected as error:
            known = [option for action in self.parser._actions for option in action.option_strings]
            known += [f"--{option}" for option in self.short]
            common = (nn.Module, L.LightningModule, L.LightningDataModule)
            reader = Reader(tuple(checkpoint.packages(self.host)), common, apart=(L.LightningModule, Solver, Term))
            raise explain(error, line, self.configs, known, reader, self.kinds) from error

    def _files(self) -> list[str]:
        return [word for config in self.configs if config for word in ("--config", json.dumps(config, default=str))]

    def _device(self) -> torch.device:
        try:
            device = torch.device(self.settings["device"])
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter
            told = str(error).splitlines()[0]
            raise ConfigError(f"--device {self.settings['device']} cannot be used: {told}; take cpu") from error
        return device
