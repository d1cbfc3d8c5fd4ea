"""Station 1, the configuration: an experiment by its name or its path, read with care."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..plugin.host import Host

__all__ = ["load", "locate", "parse"]

LARGEST = 1_000_000  # bytes; the longest experiment shipped has 4 kB
MOST_ALIASES = 100  # a YAML of a few lines can unfold to gigabytes through aliases of aliases
DEEPEST = 60
ENDINGS = (".yaml", ".yml", ".json")


TRAINERS = "trainer"
"""The folder, beside that of experiments, of files that say where and with how many processes one is trained."""


def locate(given: str, host: Host) -> Path:
    """The file of an experiment, or of a trainer to lay over one: a path that exists, or else a name.

    Raises:
        ConfigError: for neither.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if path.suffix in ENDINGS or len(path.parts) > 1:
        raise ConfigError(f"there is no config file {given}; {_by_name(path.stem, host)}")
    overlays = (folder / TRAINERS / f"{given}.yaml" for folder in host.configs())
    return next((overlay for overlay in overlays if overlay.is_file()), None) or host.experiment(given)


def load(path: Path) -> dict[str, Any]:
    """The content of a config file.

    Raises:
        ConfigError: for a file that is unreadable, too large, too deep, or no YAML mapping.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} has more than {LARGEST:,} bytes; that is no config file")
        return parse(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def parse(text: str, source: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; `source` names it in errors.

    Raises:
        ConfigError: where there is none.
    """
    try:
        _check_size(text, source)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{source} holds {type(content).__name__}; a config is a mapping with keys such as model and data"
        )
    return dict(content)


def _check_size(text: str, source: str) -> None:
    """Refuse, before anything is built, what would unfold beyond reason."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > DEEPEST or aliases > MOST_ALIASES:
            raise ConfigError(f"{source} is nested too deeply, or has too many aliases; that is no config file")


def _by_name(name: str, host: Host) -> str:
    try:
        return f"did you mean -c {host.experiment(name).stem}?"
    except ConfigError as error:
        return str(error)
