"""Station 1, the export: weights in a file of numbers alone, and beside them in its header how they are to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..callbacks.writing import put
from ..errors import CheckpointError, ConfigError
from ..types import Tensor

__all__ = ["ENDING", "NAME", "find", "read", "write"]

ENDING = ".safetensors"
NAME = f"model{ENDING}"
KEY = "deqlight"


def find(path: Path) -> Path:
    """The file that a path means: itself, or the weights in an export's folder."""
    path = path.expanduser()
    return path / NAME if path.is_dir() else path


def write(path: Path, state: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write weights and what is told of them, whole or not at all; tensors that share memory are written apart.

    Raises:
        ConfigError: without the package safetensors, or for a file that cannot be written.
    """
    save = _package().torch.save
    apart = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    try:
        put(path, save(apart, {KEY: json.dumps(told)}))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}; choose another --out") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and what is told of them.

    Raises:
        CheckpointError: for a file that is missing, damaged, or was not written by `deqlight export`.
        ConfigError: without the package safetensors.
    """
    package = _package()
    if not path.is_file():
        raise CheckpointError(f"there is no {path}")
    try:
        with package.safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {}).get(KEY, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (OSError, ValueError, package.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; is it whole?") from error
    if not isinstance(told, dict) or not isinstance(told.get("config"), dict):
        raise CheckpointError(f"{path} does not say of which network it is; deqlight export writes files that do")
    return state, told


def _package() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ConfigError("this needs the package safetensors: pip install 'deqlight[export]'") from error
    return safetensors
