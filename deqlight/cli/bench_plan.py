"""Station 1, the bench: what is compared. From the command line to networks that differ in solver and gradient."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace

from ..controllers import Controller
from ..errors import ConfigError
from ..gradients import Gradient
from ..solvers import Solver
from .app import Experiment
from .parser import Parser
from .parts import Parts

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


class Plan(Parts):
    """An experiment's network, data and loss, without a trainer; and the same network with other solvers.

    Args:
        experiment: what the command line asks for.

    Raises:
        ConfigError: saying in one line what is wrong with it.
    """

    def __init__(self, experiment: Experiment) -> None:
        texts = dict.fromkeys(("solvers", "controllers", "gradients", "output"))
        super().__init__(experiment, {**texts, "rounds": 10, "reference": 1e-6})
        if self.settings.get(_place("solver")) is None:
            raise ConfigError(
                "deqlight bench compares solvers of a network, model.net.solver, and the network of this experiment "
                "has none; samplers of a trained generator: deqlight sample --ckpt_path last --solver NAME"
            )
        self.parts = Parser(allow_abbrev=False)  # to read a whole configuration takes a second, a part of it no time
        for key, kind in KINDS.items():
            self.parts.add_subclass_arguments(kind, KEYS[key], required=False)
        if self.settings["rounds"] < 1 or not self.settings["reference"] > 0:
            told = f"--rounds is {self.settings['rounds']}, --reference {self.settings['reference']:g}"
            raise ConfigError(f"{told}; at least one round is needed, and a positive tolerance")

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
        task.load_state_dict(self.weights, strict=False)  # another solver may have other coefficients, or none
        return task.to(self.device, dtype).train()

    def batch(self) -> Any:
        """The first batch of an epoch, on the device."""
        data = self.data("fit")
        return data.transfer_batch_to_device(next(iter(data.train_dataloader())), self.device, 0)

    def _changed(self, choice: Choice) -> Any:
        """The configuration with a choice in place of the experiment's own; options of a class it keeps stay."""
        config, words = self.settings.clone(), []
        for key in choice.chosen():
            own = config.get(_place(key))
            words += [f"--{KEYS[key]}={json.dumps(own.as_dict())}"] if isinstance(own, Namespace) else []
        line = self.experiment.line
        found = self.parsed(self.parts, words, replace(line, rest=(*line.rest, *choice.words())), choice.words())
        for key in choice.chosen():
            config[_place(key)] = found[KEYS[key]]
        return config


def _place(key: str) -> str:
    """Where the parser keeps a part of the network."""
    return KEYS[key].replace(".", ".init_args.")
