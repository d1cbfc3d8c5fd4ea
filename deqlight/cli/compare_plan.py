"""Station 1, the comparison: what is compared. From the command line to cells, an experiment and a seed each."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..plugin.host import Host
from ..plugin.manager import host as load_host
from .app import App
from .checkpoint import package
from .line import Line
from .proofread import near
from .start import import_choices, prepare

__all__ = ["Cell", "Entrant", "Plan", "seeds"]

SEEDS, OUT = "3", "runs/compare"
LARGEST_SEED = 2**32 - 1
"""What Lightning's `seed_everything` takes."""
MOST_SEEDS = 1000
VALUES, FLAGS = ("seeds", "out"), ("retry", "draw")
SECTIONS = ("model", "data", "trainer", "best", "last", "timeout")
OURS = {
    "seed_everything": "--seeds says which seeds",
    "ckpt_path": "each cell trains from its start",
    "runs": "--out says where everything is written",
    "name": "a row is called as its experiment",
    "print_config": "deqlight fit has it",
}
"""Options of `fit` that a comparison settles itself."""
OWN_KEYS = ("config", "seed_everything", "name", "runs", "ckpt_path")
"""What of a configuration does not change what is trained, or changes with the cell."""


@dataclass(frozen=True)
class Entrant:
    """An experiment with the options of the line: a row of the table.

    Args:
        experiment: its name, or its file's.
        options: what else the line gave, files to lay over it and single options.
        config: the configuration that results, as plain values, without seed and places.
        versions: of deqlight and of the plugins whose classes the configuration names.
        plugins: the files of plugins to load.
    """

    experiment: str
    options: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    plugins: tuple[str, ...]

    @property
    def key(self) -> str:
        """Twelve characters that stand for configuration and versions."""
        text = json.dumps([self.config, self.versions], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """A file name."""
        return f"{re.sub(r'[^0-9A-Za-z_.-]+', '-', self.experiment).strip('-.')}-{self.key}"


@dataclass(frozen=True)
class Cell:
    """One training and test."""

    entrant: Entrant
    seed: int

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.entrant.name}-seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.entrant.experiment}, seed {self.seed}"


class Plan:
    """All that a comparison's command line asks for.

    Args:
        line: the command line.

    Attributes:
        entrants: the rows that it names; none to draw again what is there.
        seeds: the seeds of each.
        out: the folder of the comparison.
        retry: whether cells that failed are run again.
        draw: whether nothing is run at all.

    Raises:
        ConfigError: for whatever can be known to be wrong before anything is trained.
    """

    def __init__(self, line: Line) -> None:
        names, own, flags, options = _sorted(line.rest)
        self.retry, self.draw = "retry" in flags, "draw" in flags
        self.seeds = seeds(own.get("seeds", SEEDS))
        self.out = Path(own.get("out", OUT)).expanduser()
        if self.draw and not self.out.is_dir():
            raise ConfigError(f"there is nothing to draw: there is no folder {self.out}; --out names the comparison's")
        if not names and not self.draw:
            hint = f"; what -c gives is laid over each of them: put {line.configs[0]} first" if line.configs else ""
            raise ConfigError(f"no experiment to compare; name some: deqlight compare resnet_digits heun_digits{hint}")
        host = load_host(*map(Path, line.plugins))
        for given in line.configs:
            if not Path(given).expanduser().is_file():
                raise ConfigError(
                    f"-c {given} is no file; what -c gives is laid over each experiment, named without -c"
                )
        line = replace(line, command="fit", rest=tuple(options))
        self.entrants = [_entrant(given, label, line, host) for given, label in _labels(names).items()]

    @property
    def cells(self) -> list[Cell]:
        """One seed of all experiments after the other."""
        return [Cell(entrant, seed) for seed in self.seeds for entrant in self.entrants]


def seeds(text: str) -> list[int]:
    """`3` as 0, 1, 2; `0,5,7` as it is, and `5,` as 5 alone.

    Raises:
        ConfigError: for what is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not all(re.fullmatch(r"[0-9]+", part) for part in parts):
        raise _no_seeds(text, "only whole numbers from 0 on are seeds")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise _no_seeds(text, f"a number of seeds is 1 to {MOST_SEEDS}")
        return list(range(numbers[0]))
    if max(numbers) > LARGEST_SEED:
        raise _no_seeds(text, f"the largest seed is {LARGEST_SEED}")
    if len(set(numbers)) < len(numbers):
        raise _no_seeds(text, "a seed is listed twice")
    return numbers


def _no_seeds(text: str, why: str) -> ConfigError:
    return ConfigError(f"--seeds is {text!r}: {why}; give how many (3 means 0, 1, 2), or a list (0,5,7; one alone: 5,)")


def _sorted(rest: Sequence[str]) -> tuple[list[str], dict[str, str], set[str], list[str]]:
    """The experiments, the comparison's own options, its flags, and what goes on to `fit`."""
    names: list[str] = []
    own: dict[str, str] = {}
    flags: set[str] = set()
    options: list[str] = []
    waiting = list(rest)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("-"):
            names.append(word)
            continue
        if name in FLAGS and not equals:
            flags.add(name)
            continue
        _check_option(word, name)
        if not equals and waiting and not waiting[0].startswith("--"):
            value, equals = waiting.pop(0), "="
        if name in VALUES:
            if not value:
                raise ConfigError(f"--{name} needs a value")
            own[name] = value
        else:
            options.append(f"--{name}={value}" if equals else f"--{name}")
    return names, own, flags, options


def _check_option(word: str, name: str) -> None:
    if name in OURS:
        raise ConfigError(f"deqlight compare takes no --{name}: {OURS[name]}")
    if name in FLAGS:
        raise ConfigError(f"--{name} takes no value")
    known = (*VALUES, *FLAGS, *SECTIONS)
    if not word.startswith("--") or name.partition(".")[0].rstrip("+") not in known:
        raise ConfigError(f"there is no option {name!r}; {near(name, known)}")


def _labels(names: Sequence[str]) -> dict[str, str]:
    """What each experiment is called: as its file, or as it was given where two are called alike."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)} is named twice; each experiment is one row")
    stems = [Path(name).stem if Path(name).suffix else name for name in names]
    return {name: stem if stems.count(stem) == 1 else name for name, stem in zip(names, stems, strict=True)}


class _Reading(App):
    """Reads a configuration as `fit` does, and stops there."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""

    def config_of_fit(self) -> dict[str, Any]:
        """The configuration, complete with every default, as plain values."""
        return self._plain()[1]


def _entrant(given: str, label: str, line: Line, host: Host) -> Entrant:
    """Read the configuration of an experiment with the line's files and options over it."""
    import_choices()
    own = replace(line, configs=(given, *line.configs), rest=(*line.rest, "--seed_everything=false"))
    try:
        experiment = prepare(own, host)
        if experiment.source is not None:
            raise ConfigError(f"ckpt_path is {experiment.source}, and {OURS['ckpt_path']}; leave it out")
        config = _Reading(experiment).config_of_fit()
        config = {key: value for key, value in config.items() if key not in OWN_KEYS}
        _check_kept(config["trainer"])
    except ConfigError as error:
        raise ConfigError(f"{given}: {error}") from error
    over = [word for path in line.configs for word in ("-c", path)]
    text = yaml.safe_dump(config)
    used = {p.key: p.version for p in host.plugins if p.state == "active" and f"{package(p)}." in text}
    return Entrant(label, shlex.join([*over, *line.rest]), config, used, line.plugins)


def _check_kept(trainer: Mapping[str, Any]) -> None:
    """Refuse settings under which no checkpoint is left to test."""
    for name, refused in (("fast_dev_run", True), ("enable_checkpointing", False), ("logger", False)):
        if trainer[name] is not None and bool(trainer[name]) is refused:
            raise ConfigError(f"trainer.{name} is {trainer[name]}, so no checkpoint is left to test; leave it out")
