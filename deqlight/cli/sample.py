"""Station 1, the command `sample`: what a trained generator makes of noise, as an array and as a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from ..brownian import Key
from ..errors import ConfigError
from ..nets import Sampler
from ..types import Tensor
from .generator import SAMPLER, Generator, show
from .line import Line
from .sample_picture import draw
from .sample_power import measure

__all__ = ["sample"]

OPTIONS = {"n": 64, "first": 0, "seed": 0, "classes": None, "batch_size": 256, "out": None}
SAID = ("solver", "steps", "controller")
"""Options of the sampler that the table always tells."""


def sample(line: Line, console: Console | None = None) -> int:
    """Draw samples, write `samples.npy`, `samples.json` and, of images and points, `samples.png`.

    Raises:
        DeqlightError: for whatever is wrong with the request.
    """
    screen = console or Console()
    generator = Generator(line, OPTIONS, short=SAMPLER)
    settings = generator.settings
    if settings["n"] < 1 or settings["batch_size"] < 1 or min(settings["first"], settings["seed"]) < 0:
        raise ConfigError(
            f"--n is {settings['n']}, --batch_size {settings['batch_size']}, --first {settings['first']}, --seed "
            f"{settings['seed']}; the first two are at least 1, the others at least 0"
        )
    classes = _classes(generator)
    folder = _folder(generator)
    known = measure(generator)
    start = time.perf_counter()
    parts = list(_drawn(generator, classes, screen))
    seconds = time.perf_counter() - start
    samples = torch.cat([x for x, _ in parts]).cpu().numpy()
    np.save(folder / "samples.npy", samples)
    nfe = float(torch.cat([nfe for _, nfe in parts]).float().mean())
    _note(generator, folder, classes, nfe, known)
    told: dict[str, str] = {}
    told["samples"] = f"{len(samples)} of shape {samples.shape[1:]}"
    told["sampler"] = _told(generator.task.sampler)
    if known:
        told["noise power"] = f"measured on {known:,} samples of the training part"
    told["NFE"] = f"{nfe:g} a sample"
    told["seconds"] = f"{seconds:.3g}"
    told["array"] = str(folder / "samples.npy")
    try:
        drawn = draw(folder / "samples.png", samples)
        told["picture"] = str(folder / "samples.png") if drawn else "none: neither images nor points in a plane"
    except ConfigError as error:  # the samples are there
        told["picture"] = f"none: {error}"
    show(told, screen)
    return 0


def _drawn(generator: Generator, classes: Tensor | None, screen: Console) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples and what each cost, batch by batch; number i is the same however many are drawn, and in which batches."""
    settings, task = generator.settings, generator.task
    ids = torch.arange(settings["n"]) + settings["first"]
    batches = ids.split(settings["batch_size"])
    for part in track(batches, "sampling", console=screen, transient=True, disable=not screen.is_terminal):
        own = None if classes is None else classes[part % len(classes)].to(generator.device)
        with torch.no_grad():
            key = Key(settings["seed"], ids=part)
            found = task.sampler.drawn(task.denoiser, _shape(generator), key, len(part), own)
        yield task.restored(found.x), found.nfe


def _shape(generator: Generator) -> tuple[int, ...]:
    """The shape of a sample, as the checkpoint has it; else that of the data."""
    if generator.task.sample_shape is None:
        generator.task.sample_shape = tuple(cast(Tensor, generator.samples("test", 1).inputs).shape[1:])
    return generator.task.sample_shape


def _classes(generator: Generator) -> Tensor | None:
    """The classes that samples are of, in turn: those of `--classes`, or all there are; None of a network without."""
    given, known = generator.settings["classes"], generator.task.classes
    if known is None:
        if given is not None:
            raise ConfigError(f"--classes is {given}, and the network was told of no classes; leave it out")
        return None
    if given is None:
        return torch.arange(known)
    try:
        numbers = [int(word) for word in given.split(",")]
    except ValueError:
        numbers = [known]
    if given and not all(-1 <= number < known for number in numbers):
        raise ConfigError(
            f"--classes is {given!r}; it needs numbers from 0 to {known - 1} (−1 for no class), such as 3 or 0,1,7"
        )
    return torch.tensor(numbers)


def _folder(generator: Generator) -> Path:
    """Where samples are written; found out before any is drawn."""
    given = generator.settings["out"]
    if given is None:
        return generator.folder()
    folder = Path(given).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"--out {given} cannot be written to: {error.strerror or error}") from error
    return folder


def _told(sampler: Sampler) -> str:
    """The solver, where its steps are, and what else is not as usual."""
    where = f"{sampler.steps} steps" if sampler.controller is None else f"{sampler.controller!r}"
    usual = ((option.name, option.default) for option in fields(sampler) if option.name not in SAID)
    others = (f"{name}={vars(sampler)[name]!r}" for name, value in usual if vars(sampler)[name] != value)
    return ", ".join((f"{sampler.solver!r}", where, *others))


def _note(generator: Generator, folder: Path, classes: Tensor | None, nfe: float, known: int) -> None:
    """How the samples were made, so that they can be made again."""
    settings = generator.settings
    note: dict[str, Any] = {key: settings[key] for key in ("n", "first", "seed")}
    note |= {"checkpoint": str(generator.experiment.source), "sampler": repr(generator.task.sampler), "nfe": nfe}
    note["classes"] = None if classes is None else classes.tolist()
    if known:
        note["noise_power"] = f"measured on {known} samples"
    (folder / "samples.json").write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n")
