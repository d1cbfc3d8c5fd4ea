"""Station 1, the command `likelihood`: how likely the data are by a trained generator, in nats and in bits."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from rich.progress import track

from ..brownian import Key, keyed, next_stream
from ..controllers import PID, Controller
from ..data import Batch
from ..errors import ConfigError
from ..nets import Exact, Hutchinson, Told, Trace, bits_per_dim, log_likelihood
from ..solution import record
from ..solvers import Dopri5, Solver
from ..types import FieldFn, Tensor
from .generator import Generator, show
from .line import Line

__all__ = ["likelihood"]

OPTIONS = {"n": 0, "seed": 0, "width": 0.0, "batch_size": 256, "part": "test", "unconditional": False, "out": None}
KINDS: dict[str, type] = {"solver": Solver, "controller": Controller, "trace": Trace}

EXACT_UP_TO = 16
"""Dimensions up to which every entry of the Jacobian's diagonal is found, unless another trace is asked for."""


@dataclass(frozen=True)
class _Way:
    """How the flow is solved."""

    solver: Solver
    controller: Controller
    trace: Trace


def likelihood(line: Line, console: Console | None = None) -> int:
    """Print the mean log-density of the data and its bits per dimension; write each sample's to `likelihood.csv`.

    Raises:
        DeqlightError: for whatever is wrong with the request.
    """
    screen = console or Console()
    generator = Generator(line, OPTIONS, KINDS)
    settings = generator.settings
    if settings["n"] < 0 or settings["batch_size"] < 1 or not 0 <= settings["width"] < math.inf:
        raise ConfigError(
            f"--n is {settings['n']}, --batch_size {settings['batch_size']}, --width {settings['width']:g}; samples "
            "(0 takes all) and the width of a level (0 where data have none) are at least 0, a batch at least 1"
        )
    data = _data(generator)
    dims = cast(Tensor, data.inputs)[0].numel()
    way, path = _way(generator, dims), _path(generator)
    parts = list(_weighed(generator, way, data, screen))
    logs, nfe = (torch.cat(kind) for kind in zip(*parts, strict=True))
    bits = bits_per_dim(logs, dims, settings["width"] or 1.0)
    _write(path, data.ids, logs, bits)
    told: dict[str, str] = {}
    told["samples"] = f"{len(logs)} of the {settings['part']} part, {dims} dimensions"
    told["solver"] = f"{way.solver!r}, {way.controller!r}, {way.trace!r}"
    told["NFE"] = f"{float(nfe.float().mean()):.4g} a sample"
    told["log-density"] = f"{_mean(logs)} nats"
    if settings["width"]:
        told["bits per dimension"] = f"{_mean(bits)}, of levels {settings['width']:g} apart"
    else:
        told["bits per dimension"] = f"{_mean(bits)}, of a density; levels have a --width"
    told["each sample"] = str(path)
    show(told, screen)
    return 0


def _data(generator: Generator) -> Batch:
    """The samples that are weighed, in the order of the data set."""
    part, count = generator.settings["part"], generator.settings["n"]
    if part not in ("train", "val", "test"):
        raise ConfigError(f"--part is {part!r}; accepted: test, train, val")
    whole = generator.samples(part)
    order = whole.ids.argsort()[: count or None]
    return Batch(*(column[order] for column in whole))


def _way(generator: Generator, dims: int) -> _Way:
    config = generator.parser.instantiate_classes(generator.settings)
    trace = config["trace"] or (Exact() if dims <= EXACT_UP_TO else Hutchinson())
    return _Way(config["solver"] or Dopri5(), config["controller"] or PID(1e-5, 1e-5), trace)


def _weighed(generator: Generator, way: _Way, data: Batch, screen: Console) -> Iterator[tuple[Tensor, Tensor]]:
    """The log-density of each sample in the data's own unit, and what it cost, batch by batch."""
    task, settings = generator.task, generator.settings
    size = settings["batch_size"]
    for start in track(
        range(0, len(data.ids), size), "likelihood", console=screen, transient=True, disable=not screen.is_terminal
    ):
        x, classes, ids = (cast(Tensor, column[start : start + size]) for column in data)
        x = x.to(generator.device)
        with keyed(Key(settings["seed"], ids=ids)), record() as solves:
            if settings["width"]:  # a level stands for all numbers half a level around it
                x = x + settings["width"] * (next_stream().uniform(1, x)[:, 0] - 0.5)
            told = task.classes is not None and not settings["unconditional"]
            field = Told(task.denoiser.eps, classes.to(generator.device)) if told else task.denoiser.eps
            logs = log_likelihood(
                cast(FieldFn, field),
                task.denoiser.schedule,
                task.normal(x),
                solver=way.solver,
                controller=way.controller,
                trace=way.trace,
            )
        nfe = torch.stack([stats.nfe.cpu() for stats in solves]).sum(0)
        yield logs.cpu() - x[0].numel() * math.log(task.scale), nfe


def _mean(values: Tensor) -> str:
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{float(values.mean()):.4f} ± {error:.2g}"


def _path(generator: Generator) -> Path:
    """The file to write; found out before anything is weighed."""
    given = generator.settings["out"]
    if given is None:
        return generator.folder() / "likelihood.csv"
    path = Path(given).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"--out {given} cannot be written: {error.strerror or error}; it is a CSV file") from error
    return path


def _write(path: Path, ids: Tensor, logs: Tensor, bits: Tensor) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "log_density", "bits_per_dim"))
        writer.writerows(zip(ids.tolist(), logs.tolist(), bits.tolist(), strict=True))
