"""Station 1, the export: a trained network for others, as weights or as a program, with a model card."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn

from ..callbacks.writing import put
from ..controllers import Controller, FixedSteps
from ..errors import ConfigError, check_word
from ..types import Tensor
from . import model_card, weights
from .generator import show
from .line import Line
from .load import Trained, described
from .start import prepare_trained

__all__ = ["export"]

FORMATS = ("safetensors", "torch_export")
OPTIONS: dict[str, Any] = {"out": None, "format": FORMATS[0]}
PROGRAM = "model.pt2"
CLOSE = 1e-6
"""How far the program's outputs may be from the network's, by their largest: both are the same operations."""


def export(line: Line, console: Console | None = None) -> int:
    """Write the network of a checkpoint to a folder, with a model card.

    Raises:
        ConfigError: for a request that cannot be met.
        CheckpointError: for a checkpoint that cannot be read.
    """
    experiment = prepare_trained(line)
    trained = Trained(experiment, cast(Path, experiment.source), None, OPTIONS)
    settings = trained.settings
    check_word("deqlight export", "format", settings["format"], FORMATS)
    program = None
    if settings["format"] == "torch_export":
        program = exported(trained.network, _inputs(trained))  # before a folder is made: it may be refused
    folder = _folder(trained, settings["out"])
    told = {**described(trained), "origin": trained.content.get("deqlight", {}).get("run", {})}
    if program is None:
        file = folder / weights.NAME
        weights.write(file, trained.task.state_dict(), told)
    else:
        file = folder / PROGRAM
        _save(program, file)
    put(folder / "config.yaml", model_card.as_yaml(told["config"]))
    put(folder / "README.md", model_card.card(trained, told, file, _sizes(program)))
    size = f"{file.stat().st_size / 2**20:.2f} MiB"
    show({"written": f"{file} ({size})", "model card": str(folder / "README.md")}, console or Console())
    return 0


def exported(net: nn.Module, inputs: Tensor) -> Any:
    """The network as a program of torch.export, which has given on this batch, and on a part of it, what it gives.

    Raises:
        ConfigError: for measured steps, whose number depends on the data; for what torch.export cannot follow.
    """
    for name, module in net.named_modules():
        controller = vars(module).get("controller")
        if isinstance(controller, Controller) and not isinstance(controller, FixedSteps):
            raise ConfigError(
                f"{name or 'the network'} steps by {type(controller).__name__}, and how many steps that takes depends "
                "on the data, which no exported graph can; use Constant(steps=…): --model.net.controller Constant "
                "--model.net.controller.steps 8, and see by deqlight test that it is as good"
            )
    batch = {0: torch.export.Dim.AUTO}
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(net, (inputs,), dynamic_shapes=(batch,), strict=True)
    except Exception as error:  # torch raises many kinds, for whatever it cannot follow
        told = next((text for text in str(error).splitlines() if text.strip()), type(error).__name__)
        raise ConfigError(
            f"torch.export cannot follow this network: {told.strip()[:300]}; --format safetensors takes every network"
        ) from error
    _verify(program, net, inputs)
    return program


def _verify(program: Any, net: nn.Module, inputs: Tensor) -> None:
    """Run the program beside the network."""
    several = _sizes(program) is None and len(inputs) > 1
    for batch in (inputs, inputs[:-1]) if several else (inputs,):
        with torch.no_grad():
            ours, theirs = net(batch), program.module()(batch)
        off = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1.0))
        if not off <= CLOSE:
            raise ConfigError(
                f"the exported program is off by {off:.1e}, more than {CLOSE:.0e}: does the network draw noise? "
                "--format safetensors takes every network"
            )


def _inputs(trained: Trained) -> Tensor:
    inputs = trained.batch().inputs
    if not isinstance(inputs, Tensor) or not _called_alike(trained, inputs):
        raise ConfigError(
            f"the network of {type(trained.task).__name__} is not called with a batch of its data alone, so there is "
            "no one graph of it; --format safetensors takes every network"
        )
    return inputs


def _called_alike(trained: Trained, inputs: Tensor) -> bool:
    """Whether the network, called with a batch, gives tensors: a generator's is called with times as well."""
    try:
        with torch.no_grad():
            return isinstance(trained.network(inputs), Tensor)
    except TypeError:
        return False


def _sizes(program: Any) -> int | None:
    """The one batch size that a program takes; None where it takes others too, or where there is no program."""
    if program is None:
        return None
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"}
    shapes = [node.meta["val"].shape[0] for node in program.graph.nodes if node.name in names]
    return shapes[0] if isinstance(shapes[0], int) else None


def _save(program: Any, file: Path) -> None:
    """Write the program whole or not at all."""
    partial = file.with_name(f"partial-{file.name}")  # torch asks for the ending
    try:
        with _quiet():
            torch.export.save(program, partial)
        partial.replace(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{file} cannot be written: {error}; choose another --out") from error


def _folder(trained: Trained, out: str | None) -> Path:
    """Where to write: what is asked for, or a new folder below the run of the checkpoint."""
    if out is not None:
        folder = Path(out).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be made: {error.strerror or error}; choose another") from error
        return folder
    return trained.folder()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the pages that torch logs about a network which it cannot follow: the error says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
