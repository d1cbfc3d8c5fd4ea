"""Station 1, the bench: what is compared. From the command line to networks that differ in solver and gradient."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import lightning as L
import torch
from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]  # it gathers its names as it runs
from torch import nn

from ..controllers import Controller
from ..errors import ConfigError
from ..gradients import Gradient
from ..plugin.host import Host
from ..solvers import Solver
from ..terms import Term
from . import checkpoint
from .app import BELIEVED, Experiment
from .line import Line
from .parser import Parser, Rejected, explain
from .proofread import Reader

__all__ = ["Choice", "Plan", "spelled"]

KINDS = {"solver": Solver, "controller": Controller, "gradient": Gradient}
KEYS = {key: f"model.net.{key}" for key in KINDS}
HOOKS = {key: f"deqlight_{key}s" for key in KINDS}


@dataclass(frozen=True)
class Choice:
    """What a row of the table changes in the experiment's network; None leaves it as it is.

    Args:
        solver: a name with its options, `Heun`, `ReversiblePair:solver=Heun`.
        controller: the same, `Constant:steps=8`.
        gradient: the same, `Checkpoint:budget=8`.
    """

    solver: str | None = None
    controller: str | None = None
    gradient: str | None = None

    def words(self) -> tuple[str, ...]:
        """The options of the command line that make the change."""
        return tuple(word for key, text in self.chosen().items() for word in spelled(KEYS[key], text))

    def chosen(self) -> dict[str, str]:
        """What it changes, by kind."""
        return {key: text for key in KINDS if (text := getattr(self, key)) is not None}


def spelled(key: str, text: str) -> list[str]:
    """`Checkpoint:budget=8` as options: `--KEY=Checkpoint`, `--KEY.budget=8`.

    Raises:
        ConfigError: for an option without a value.
    """
    name, *options = text.split(":")
    for option in options:
        if "=" not in option:
            raise ConfigError(f"{text!r}: {option!r} has no value; options are written NAME:option=value:option=value")
    return [f"--{key}={name}", *(f"--{key}.{option}" for option in options)]


class Plan:
    """An experiment's network, data and loss, without a trainer; and the same network with other solvers.

    Args:
        experiment: what the command line asks for.

    Raises:
        ConfigError: saying in one line what is wrong with it.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.parser = Parser(allow_abbrev=False)
        self.parser.add_argument("--config", action=ActionConfigFile)
        self.parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
        self.parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        self.parser.add_argument("--seed_everything", type=bool | int, default=0)
        for option in ("--ckpt_path", "--name", "--runs", "--solvers", "--controllers", "--gradients", "--output"):
            self.parser.add_argument(option, type=str, default=None)
        self.parser.add_argument("--device", type=str, default="cuda" if torch.cuda.is_available() else "cpu")
        self.parser.add_argument("--rounds", type=int, default=10)
        self.parser.add_argument("--reference", type=float, default=1e-6)
        sections = (experiment.stamp, *experiment.configs)
        self.configs = [{key: config[key] for key in BELIEVED if key in config} for config in sections]
        self.settings = self._parsed(self.parser, self._files(), experiment.line)
        self.parts = Parser(allow_abbrev=False)  # to read a whole configuration takes a second, a part of it no time
        for key, kind in KINDS.items():
            self.parts.add_subclass_arguments(kind, KEYS[key], required=False)
        self.device = self._device()
        if self.settings["rounds"] < 1 or not self.settings["reference"] > 0:
            told = f"--rounds is {self.settings['rounds']}, --reference {self.settings['reference']:g}"
            raise ConfigError(f"{told}; at least one round is needed, and a positive tolerance")

    @property
    def host(self) -> Host:
        """The plugins."""
        return self.experiment.host

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return int(self.settings["seed_everything"])

    def asked(self, key: str) -> list[str]:
        """What `--solvers`, `--controllers` or `--gradients` lists; nothing where it is not given.

        Raises:
            ConfigError: for a name that no class has.
        """
        listed = [text.strip() for text in (self.settings[f"{key}s"] or "").split(",")]
        for text in filter(None, listed):
            self.host.find(HOOKS[key], text.partition(":")[0])
        return [text for text in listed if text]

    def own(self, key: str) -> str:
        """The name of the experiment's own solver, controller or gradient; "none" without one."""
        given = self.settings.get(_place(key))
        path = given.get("class_path") if isinstance(given, Namespace) else given and type(given).__name__
        return (path or "none").rpartition(".")[2]

    def task(self, choice: Choice, dtype: torch.dtype | None = None) -> L.LightningModule:
        """The experiment's task around the network so changed, with the experiment's seed or checkpoint.

        Raises:
            ConfigError: for an option that its class does not have.
            InputError: for parts that do not go together.
        """
        config = self._changed(choice)
        torch.manual_seed(self.seed)
        task: L.LightningModule = self.parser.instantiate_classes(config)["model"]
        task.load_state_dict(self._weights, strict=False)  # another solver may have other coefficients, or none
        return task.to(self.device, dtype).train()

    def batch(self) -> Any:
        """The first batch of an epoch, on the device."""
        torch.manual_seed(self.seed)
        data: L.LightningDataModule = self.parser.instantiate_classes(self.settings)["data"]
        data.prepare_data()
        data.setup("fit")
        return data.transfer_batch_to_device(next(iter(data.train_dataloader())), self.device, 0)

    @cached_property
    def _weights(self) -> dict[str, Any]:
        """Those of the checkpoint; none without one."""
        source = self.experiment.source
        return {} if source is None else dict(checkpoint.load(source)["state_dict"])

    def _changed(self, choice: Choice) -> Any:
        """The configuration with a choice in place of the experiment's own; options of a class it keeps stay."""
        config, words = self.settings.clone(), []
        for key in choice.chosen():
            own = config.get(_place(key))
            words += [f"--{KEYS[key]}={json.dumps(own.as_dict())}"] if isinstance(own, Namespace) else []
        line = self.experiment.line
        found = self._parsed(self.parts, words, replace(line, rest=(*line.rest, *choice.words())), choice.words())
        for key in choice.chosen():
            config[_place(key)] = found[KEYS[key]]
        return config

    def _files(self) -> list[str]:
        return [word for config in self.configs if config for word in ("--config", json.dumps(config, default=str))]

    def _parsed(self, parser: Parser, first: Sequence[str], line: Line, rest: Sequence[str] | None = None) -> Any:
        """What a parser makes of these words, and then those of the line or `rest`."""
        try:
            return parser.parse_args([*first, *(line.rest if rest is None else rest)])
        except Rejected as error:
            known = [option for action in self.parser._actions for option in action.option_strings]
            common = (nn.Module, L.LightningModule, L.LightningDataModule)
            reader = Reader(tuple(checkpoint.packages(self.host)), common, apart=(L.LightningModule, Solver, Term))
            raise explain(error, line, self.configs, known, reader) from error

    def _device(self) -> torch.device:
        try:
            device = torch.device(self.settings["device"])
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter
            told = str(error).splitlines()[0]
            raise ConfigError(f"--device {self.settings['device']} cannot be used: {told}; take cpu") from error
        return device


def _place(key: str) -> str:
    """Where the parser keeps a part of the network."""
    return KEYS[key].replace(".", ".init_args.")
