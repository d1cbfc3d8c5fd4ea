"""Station 1, the experiment: Lightning's command line, with deqlight's trainer around every task."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from .. import __version__
from ..callbacks import (
    Best,
    CheckpointParity,
    ConfigStamp,
    EpochLines,
    Last,
    Manifest,
    PluginParity,
    Predictions,
    Summary,
)
from ..errors import ConfigError
from ..plugin.host import Host
from ..solvers import Solver
from ..terms import Term
from . import checkpoint, runs
from .differences import differences
from .line import Line
from .parser import Parser, Rejected, explain
from .proofread import Reader
from .ranks import settle
from .storage import AtomicIO

__all__ = ["App", "Experiment"]

BELIEVED = ("model", "data", "seed_everything")
RESUMED = (*BELIEVED, "trainer", "best", "last", "runs")
"""What a checkpoint's own configuration decides, unless a file or an option does: to resume needs the trainer too."""


@dataclass(frozen=True)
class Experiment:
    """All that is known before the parser runs.

    Args:
        line: the command line, its checkpoint resolved to a path.
        host: the plugins.
        configs: the configuration files, read.
        paths: where they lie.
        name: what the runs are called.
        stamp: the configuration that the checkpoint brings.
        source: the checkpoint.
    """

    line: Line
    host: Host
    configs: Sequence[Mapping[str, Any]]
    paths: Sequence[Path]
    name: str
    stamp: Mapping[str, Any]
    source: Path | None

    def words(self) -> list[str]:
        """The command line for the parser: each one beats those before it."""
        first = ["--verbose=false"] if self.line.command in ("validate", "test") else []  # Summary prints the table
        first += ["--config", json.dumps(self.stamp)] if self.stamp else []
        files = [word for path in self.paths for word in ("--config", str(path))]
        return [str(self.line.command), *first, *files, *self.line.rest]


class App(LightningCLI):
    """Runs one command on one experiment.

    Args:
        experiment: what the command line asks for.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # ConfigStamp does it, and does not fail on the second run
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False},  # `--trainer.max_epoch` is a mistake, not a short form
            trainer_defaults={"log_every_n_steps": 10},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=experiment.words(),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where the run is written, and what its best checkpoint is."""
        parser.add_argument("--name", type=str, default=self.experiment.name, help="Folder of this experiment's runs.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs.")
        parser.add_argument("--timeout", type=float | None, default=None, help="Seconds a rank waits for another.")
        parser.add_class_arguments(Best, "best", instantiate=True)
        parser.add_class_arguments(Last, "last", instantiate=True)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the experiment's words.

        Raises:
            ConfigError: saying in one line what is wrong.
        """
        try:
            self.config = parser.parse_args(self.experiment.words())
        except Rejected as error:
            line = self.experiment.line
            known = [option for action in self._parser(line.command)._actions for option in action.option_strings]
            packages = tuple(checkpoint.packages(self.experiment.host))
            common = (nn.Module, L.LightningModule, L.LightningDataModule)
            reader = Reader(packages, common, apart=(L.LightningModule, Solver, Term))
            raise explain(error, line, [self.experiment.stamp, *self.experiment.configs], known, reader) from error
        self._tell_differences()

    @rank_zero_only
    def _tell_differences(self) -> None:
        """Say where the configuration stands over the checkpoint's: weights of one solver run by another, say."""
        then = self.experiment.stamp.get("model")
        told = list(differences(self._plain()[1].get("model"), then, "model")) if then else []
        if told:
            text = "; ".join(told)
            print(f"not as the checkpoint was trained: {text}", file=sys.stderr, flush=True)  # noqa: T201  its own voice

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let the checkpoint beat the command line; `Experiment.words` puts it first."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer of the configuration, with deqlight's loggers, callbacks and checkpoints.

        Raises:
            ConfigError: for what Lightning's trainer does not take, a misspelt strategy say.
        """
        settings = {**self.config_init[self.subcommand]["trainer"], **kwargs}
        own = self.experiment
        if settings.get("logger") in (None, True):
            logged = not settings.get("fast_dev_run") and self.subcommand != "predict"
            settings["logger"] = self._loggers() if logged else False
        quiet = not sys.stdout.isatty()
        for part in ("enable_progress_bar", "enable_model_summary"):
            if settings.get(part) is None:
                settings[part] = not quiet
        settings["plugins"] = [*_listed(settings.get("plugins"))]
        if not any(isinstance(plugin, CheckpointIO) for plugin in settings["plugins"]):
            settings["plugins"].append(AtomicIO())
        callbacks = _listed(settings.get("callbacks"))
        if settings["enable_progress_bar"] and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.insert(0, RichProgressBar())  # Lightning's own choice, but closed before the table is printed
        callbacks += [PluginParity(own.host.manifest()), CheckpointParity(own.source), self._stamp(), Summary()]
        settings["callbacks"] = [*callbacks, *self._running(settings, quiet)]
        try:
            trainer = L.Trainer(**settings)
        except ValueError as error:
            raise ConfigError(f"no trainer can be made of that: {' '.join(str(error).split())}") from error
        return settle(trainer, self.config[self.subcommand]["timeout"])

    def _running(self, settings: Mapping[str, Any], quiet: bool) -> list[Callback]:
        """What belongs to one command alone."""
        extra: list[Callback] = []
        if self.subcommand == "fit":
            extra.append(Manifest(self._plain()[1], self.experiment.host.manifest(), __version__))
        if self.subcommand == "predict":
            extra.append(Predictions(self._folder()))
        if self.subcommand == "fit" and quiet:
            extra.append(EpochLines())
        if (
            self.subcommand == "fit"
            and settings.get("enable_checkpointing") is not False
            and not settings.get("fast_dev_run")
        ):
            extra += [self.config_init["fit"]["best"], self.config_init["fit"]["last"]]
        return extra

    def _stamp(self) -> ConfigStamp:
        return ConfigStamp(*self._plain(), self.experiment.host.manifest(), __version__)

    def _plain(self) -> tuple[str, dict[str, Any]]:
        """The configuration as YAML, and as plain values."""
        command = str(self.experiment.line.command)
        config = self.config[command].clone()
        config.pop("config", None)
        text = self._parser(command).dump(config, skip_none=False)
        return text, yaml.safe_load(text)

    def _loggers(self) -> list[Logger]:
        folder = self._folder()
        root, name = folder.parent.parent, folder.parent.name
        version = int(folder.name.rpartition("_")[2])  # both loggers make version_N of it: one folder for both
        csv = CSVLogger(root, name, version)
        return (
            [csv, TensorBoardLogger(root, name, version, default_hp_metric=False)]
            if self.subcommand == "fit"
            else [csv]
        )

    def _folder(self) -> Path:
        """The folder of this run. An evaluation writes below the run whose checkpoint it takes."""
        config, source = self.config[str(self.subcommand)], self.experiment.source
        root, name = Path(config["runs"]), str(config["name"])
        if self.subcommand != "fit" and source is not None and source.parent.name == "checkpoints":
            root, name = source.parent.parent, str(self.subcommand)
        if runs.follows() and not runs.is_child():
            return root / name / "version_0"  # never made: the trainer asks the first rank where to write
        return runs.shared("folder", lambda: runs.next_folder(root, name))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
