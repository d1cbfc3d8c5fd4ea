"""Station 1, a trained generator: what `sample` and `likelihood` have in common."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import Batch
from ..errors import ConfigError
from ..nets import Sampler
from ..tasks import Generate
from .line import Line
from .parts import Parts
from .start import prepare_trained

__all__ = ["SAMPLER", "Generator", "show"]

SAMPLER = tuple(field.name for field in fields(Sampler))
"""Options of the sampler, which the command line says for short: `--solver DDIM` is `--model.sampler.solver DDIM`."""


class Generator(Parts):
    """The task of a checkpoint, with its weights, on its device, ready to draw samples or to weigh data.

    Args:
        line: the command line.
        options: the command's own options and their defaults.
        kinds: the command's own options that name a class.
        short: options of the sampler that the command takes by their last name; `SAMPLER`, or none.

    Raises:
        ConfigError: for a configuration that cannot be, an experiment that is no generator, or no checkpoint.
        CheckpointError: for a checkpoint that cannot be read, or is of another network.
    """

    def __init__(
        self,
        line: Line,
        options: dict[str, Any],
        kinds: dict[str, type] | None = None,
        short: tuple[str, ...] = (),
    ) -> None:
        self.short = short
        words = tuple(_long(word, short) for word in line.rest)
        super().__init__(prepare_trained(replace(line, rest=words)), options, kinds)
        self.task = self._trained()

    def samples(self, part: str, count: int | None = None) -> Batch:
        """So many samples of a part of the data, `train`, `val` or `test`; None takes all.

        They come as the part's loader gives them: those of the training part in a shuffled order, by the seed.
        """
        batches: list[Batch] = []
        for batch in getattr(self.data("test" if part == "test" else "fit"), f"{part}_dataloader")():
            batches.append(batch)
            if count is not None and sum(len(some.ids) for some in batches) >= count:
                break
        return Batch(*(torch.cat(column)[:count] for column in zip(*batches, strict=True)))

    def _trained(self) -> Generate:
        torch.manual_seed(self.seed)
        task = self.parser.instantiate_classes(self.settings)["model"]
        if not isinstance(task, Generate):
            raise ConfigError(
                f"the task is {type(task).__name__}, which generates nothing; deqlight {self.experiment.line.command} "
                "needs a checkpoint of the task Generate, such as deqlight fit -c edm_points writes"
            )
        self.fill(task, self.experiment.source)
        task.on_load_checkpoint(self.content)
        return task.to(self.device).eval()


def _long(word: str, short: tuple[str, ...]) -> str:
    """An option of the sampler by its full name; any other word as it is."""
    name = word.removeprefix("--").partition("=")[0].partition(".")[0]
    if word.startswith("--") and name in short:
        return f"--model.sampler.{word.removeprefix('--')}"
    return word


def show(told: dict[str, str], screen: Console) -> None:
    """Print what a command found out as a table of two columns, each text as it is."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in told.items():
        table.add_row(name, Text(value))  # in a str, rich would take [plots] for a colour
    screen.print(table)
