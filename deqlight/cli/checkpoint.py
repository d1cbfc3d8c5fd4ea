"""Station 1, the checkpoint: which file is meant, what it says of itself, and whether that may be believed."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import yaml

from ..callbacks import STAMP
from ..errors import CheckpointError
from ..plugin.host import FILE, Host, Plugin
from ..plugin.inline import module_name

__all__ = ["AUTO", "KEYWORDS", "believe", "candidates", "find", "load", "package", "packages", "sound", "stamp"]

KEYWORDS = ("last", "best")
AUTO = "auto"
"""For `fit`: the last checkpoint, or the beginning where there is none."""
TRUSTED = ("lightning", "torch.nn", "torch.optim")
DOTTED = re.compile(r"\s*[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\s*")


def find(keyword: str, runs: Path, name: str | None) -> Path:
    """The newest `last.ckpt` or `best.ckpt` of an experiment's runs, or of all runs where no experiment is named.

    Raises:
        CheckpointError: where there is none; nothing starts afresh in silence.
    """
    found = candidates(keyword, runs, name)
    if not found:
        raise CheckpointError(
            f"there is no {keyword} checkpoint: nothing matches {runs / _pattern(keyword, name)}; "
            "give the path of one, or --runs and --name as the run had them"
        )
    return found[0]


def candidates(keyword: str, runs: Path, name: str | None) -> list[Path]:
    """All checkpoints of that name, the newest first."""
    return _newest_first(runs.glob(_pattern(keyword, name)))


def sound(keyword: str, runs: Path, name: str | None, warn: Callable[[str], None]) -> Path:
    """What `find` finds; where that is damaged, and the last, the newest checkpoint of the same run that is not.

    Args:
        keyword: `last` or `best`.
        runs: the folder of all runs.
        name: the experiment, or None for any.
        warn: is told in whose place another one is taken, and of files whose times contradict their runs' numbers.

    Raises:
        CheckpointError: where there is none, or none whole; for one that holds code, which is no damage.
    """
    first = find(keyword, runs, name)
    later = max(first.parents[2].glob(f"version_*/checkpoints/{keyword}.ckpt"), key=_version)
    if _version(later) > _version(first):
        warn(f"warning: by its number {later} is newer than {first}, by its time older: do the machines' clocks agree?")
    others = [path for path in _newest_first(first.parent.glob("*.ckpt")) if path != first]
    for path in [first, *others]:
        try:
            load(path, mmap=True)
        except CheckpointError as error:
            if path == first and (keyword != "last" or isinstance(error.__cause__, pickle.UnpicklingError)):
                raise
            warn(f"warning: {error}")
            continue
        if path != first:
            warn(f"warning: {path} is taken in place of {first}, which is damaged")
        return path
    raise CheckpointError(f"no checkpoint in {first.parent} is whole; go on from another run, or begin again")


def _pattern(keyword: str, name: str | None) -> str:
    return f"{name or '*'}/version_*/checkpoints/{keyword}.ckpt"


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _version(path: Path) -> int:
    number = path.parents[1].name.rpartition("_")[2]
    return int(number) if number.isdigit() else -1


def load(path: Path, *, mmap: bool = False, weights_only: bool = True) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        path: the file.
        mmap: leave the tensors on the disk until they are used.
        weights_only: take plain values and tensors alone, so that no code in the file is run.

    Raises:
        CheckpointError: for a file that is missing, damaged, or no Lightning checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch reads a flipped bit without complaint; the checksums are there
        if damaged is not None:
            raise CheckpointError(f"checkpoint {path} is damaged ({damaged} fails its checksum); use an earlier one")
        content = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} holds objects, not only weights; such a file can run code, so it is refused"
        ) from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {error or type(error).__name__}; is it a checkpoint, and whole?"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{path} is no Lightning checkpoint: it has no state_dict")
    return content


def stamp(path: Path) -> dict[str, Any] | None:
    """What `ConfigStamp` wrote into a checkpoint; None where nothing did."""
    found = load(path, mmap=True).get(STAMP)
    return found if isinstance(found, dict) and isinstance(found.get("config"), dict) else None


def packages(host: Host) -> tuple[str, ...]:
    """The packages of the active plugins, deqlight's own among them."""
    return tuple(sorted({package(plugin) for plugin in host.plugins if plugin.state == "active"}))


def package(plugin: Plugin) -> str:
    """The package that a plugin's classes are in."""
    return module_name(Path(plugin.source)) if plugin.distribution == FILE else plugin.source.partition(".")[0]


def believe(config: Mapping[str, Any], path: Path, plugins: Iterable[str]) -> None:
    """Refuse a stamped configuration that would import anything else: what looks like data must not be code.

    Raises:
        CheckpointError: naming the module.
    """
    accepted = (*TRUSTED, *plugins)
    for text in _texts(config):
        if _holds_structure(text) or _is_file(text):
            raise _unbelieved(path, text, accepted)
        if DOTTED.fullmatch(text) and not (_below(text.strip(), accepted) and _below(_home(text.strip()), accepted)):
            raise _unbelieved(path, text, accepted)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(node, (list, tuple, set)):
        for value in node:
            yield from _texts(value)


def _holds_structure(text: str) -> bool:
    """The parser reads a text that holds YAML where it expects a class."""
    try:
        return isinstance(yaml.safe_load(text), (dict, list))
    except yaml.YAMLError:
        return False


def _is_file(text: str) -> bool:
    """A path in place of a value makes the parser read that file."""
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _home(name: str) -> str:
    """Where an object is defined, which may be elsewhere than the accepted module that it is reached through."""
    try:
        return str(getattr(resolve_name(name), "__module__", name))
    except (ImportError, AttributeError, ValueError):
        return name


def _below(name: str, accepted: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in accepted)


def _unbelieved(path: Path, text: str, accepted: tuple[str, ...]) -> CheckpointError:
    return CheckpointError(
        f"the configuration in checkpoint {path} names {text.strip()!r}, which is in none of {', '.join(accepted)}; "
        "install or give the plugin it comes from (--plugin FILE.py), or add --trust if you know who made the file"
    )
