"""Station 1, the reproduction: a recorded run once more, and how far what comes out is from what was recorded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning  # noqa: F401  before rich: the `Union[int, float]` of its options is else read as `Union[float, int]`
import torch
import yaml
from rich.console import Console

from ..callbacks import MANIFEST, Stopped
from ..errors import ConfigError, suggest
from ..plugin.host import Host
from ..plugin.manager import host as load_host
from . import checkpoint, runs
from .app import RESUMED, App
from .generator import show
from .line import Line, read
from .start import launch

__all__ = ["reproduce"]

OPTIONS = ("--tolerance",)
KEPT = (*RESUMED, "ckpt_path")
"""What of the recorded configuration is run again; the rest says where."""
LAST = Path("checkpoints", "last.ckpt")
SAME = "same, bit for bit"


def reproduce(line: Line, console: Console | None = None) -> int:
    """Run what a run's folder records again, below that folder, and compare; 1 where it is further off than allowed.

    Raises:
        DeqlightError: for whatever is wrong with the request, or with the run.
    """
    folder, tolerance = _asked(line)
    then = _recorded(folder)
    host = load_host(*map(Path, line.plugins))
    config = {key: then["config"][key] for key in KEPT if key in then["config"]}
    if "trust" not in line.flags:
        checkpoint.believe({**config, "ckpt_path": None}, folder / MANIFEST, checkpoint.packages(host))
    app = _again(config, folder, line)
    again = Path(str(app.trainer.log_dir))  # asks all ranks: every rank must come here
    if not app.trainer.is_global_zero:
        return 0  # the first rank compares
    now = json.loads((again / MANIFEST).read_text())
    off = {"metrics": _metrics_off(now["metrics"], then["metrics"]), "weights": _weights_off(again, folder)}
    known = [value for value in off.values() if value is not None]
    equal = bool(known) and all(value <= tolerance for value in known)
    told = {
        "recorded": str(folder),
        "again": str(again),
        **{name: _told(value) for name, value in off.items()},
        "differs": "\n".join(_differences(now, then, host)) or "neither versions nor machine",
        "so": f"reproduced, within {tolerance:g}" if equal else f"not reproduced, within {tolerance:g}",
    }
    show(told, console or Console())
    return 0 if equal else 1


def _asked(line: Line) -> tuple[Path, float]:
    """The run's folder, and how far off its reproduction may be."""
    rest = list(line.rest)
    options = dict(line.options())
    for option in options:
        if option not in OPTIONS:
            raise ConfigError(f"deqlight reproduce has no option {option}; {suggest(option, OPTIONS)}")
    given = options.get("--tolerance", "0")
    values = {word for option, word in options.items() if f"{option}={word}" not in rest}
    folders = [word for word in rest if not word.startswith("--") and word not in values]
    if len(folders) != 1:
        raise ConfigError("deqlight reproduce takes the folder of one run: runs/NAME/version_N")
    try:
        tolerance = float(str(given))
    except ValueError:
        tolerance = math.nan
    if not tolerance >= 0:
        raise ConfigError(f"--tolerance {given} is no number from 0 on; it is the largest difference that is allowed")
    return Path(folders[0]).expanduser(), tolerance


def _recorded(folder: Path) -> dict[str, Any]:
    """The manifest of a run that ended.

    Raises:
        ConfigError: where there is none, or the run did not end.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}; deqlight fit writes one into the folder of each run") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("config", "versions")):
        raise ConfigError(f"{path} is no manifest of a run")
    if found.get("status") != "finished":
        why = ", ".join(str(found[key]) for key in ("status", "reason") if found.get(key))
        raise ConfigError(
            f"{folder} did not come to its end ({why}), so there is nothing to compare with; "
            f"go on with it: deqlight fit --ckpt_path {folder / LAST}"
        )
    return found


def _again(config: Mapping[str, Any], folder: Path, line: Line) -> App:
    """Train as recorded, into a new folder below the run's.

    Raises:
        ConfigError: where it was stopped, for then nothing can be compared.
    """
    place = folder / "reproduce" / "config.yaml"
    if not runs.is_child():
        place.parent.mkdir(exist_ok=True)
        place.write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    words = ["fit", "-c", str(place), f"--runs={folder}", "--name=reproduce"]
    try:
        return launch(replace(read(words), plugins=line.plugins, flags=line.flags))
    except Stopped as stop:
        raise ConfigError(f"stopped by {stop.signal.name}: there is nothing to compare yet") from stop


def _metrics_off(now: Mapping[str, float], then: Mapping[str, float]) -> float:
    """The largest difference of a metric; one that is missing on a side is infinitely far off."""
    if now.keys() != then.keys():
        return math.inf
    return max((_off(now[name], then[name]) for name in then), default=0.0)


def _off(one: float, two: float) -> float:
    if one == two or (math.isnan(one) and math.isnan(two)):
        return 0.0
    off = abs(one - two)
    return math.inf if math.isnan(off) else off


def _weights_off(again: Path, folder: Path) -> float | None:
    """The largest difference of a weight at the end; None where the run kept none."""
    if not (folder / LAST).is_file() or not (again / LAST).is_file():
        return None
    now, then = (checkpoint.load(path / LAST)["state_dict"] for path in (again, folder))
    if now.keys() != then.keys() or any(now[name].shape != then[name].shape for name in then):
        return math.inf
    pairs = [(now[name], then[name]) for name in then if not torch.equal(now[name], then[name])]
    kind = torch.complex128 if any(one.is_complex() for pair in pairs for one in pair) else torch.float64
    off = [float((one.to(kind) - two.to(kind)).abs().max()) for one, two in pairs]
    return max((math.inf if math.isnan(value) else value for value in off), default=0.0)


def _told(off: float | None) -> str:
    if off is None:
        return "not compared: the run kept no last checkpoint"
    return SAME if off == 0 else f"off by {off:.3g} at most"


def _differences(now: Mapping[str, Any], then: Mapping[str, Any], host: Host) -> list[str]:
    """In what versions, plugins and machines are others than they were."""
    pairs = {
        name: (now["versions"].get(name), then["versions"].get(name))
        for name in {**then["versions"], **now["versions"]}
    }
    old, new = dict(then.get("plugins") or []), dict(host.manifest())
    pairs |= {f"plugin {name}": (new.get(name), old.get(name)) for name in {**old, **new}}
    pairs["ranks"] = (now["world_size"], then.get("world_size"))
    for rank, (one, two) in enumerate(zip(now["ranks"], then.get("ranks") or [], strict=False)):
        where = f" of rank {rank}" if rank else ""
        pairs |= {f"{key}{where}": (one.get(key), two.get(key)) for key in ("host", "system", "device", "threads")}
    return [f"{name}: {one or 'none'} now, {two or 'none'} then" for name, (one, two) in pairs.items() if one != two]
