"""Station: what runs beside the test. The network on images made worse, by chance or on purpose."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.nn import functional as F
from torchmetrics import MeanMetric

from ..brownian import Key, keyed
from ..errors import InputError
from ..robustness import Attack, Corruption
from ..robustness.corruptions import SEVERITIES
from ..types import Tensor

__all__ = ["Robustness"]


class Robustness(L.Callback):
    """Tests a classifier of images in [0, 1] on worse ones: `deqlight test` logs `test/accuracy_NAME_SEVERITY`, too.

    Of each attack it logs `test/accuracy_NAME` and `test/loss_NAME`, the mean loss on the moved images: one that is no
    higher than `test/loss` says that the attack found no gradient to follow, not that the network is robust. A table
    of all is written as `robustness.csv` into the run's folder. Over all ranks; each image's corruption and random
    start are functions of its place in the data, so that neither batch nor number of processes matters.

    Args:
        corruptions: such as `Blur`.
        severities: which of 1 to 5.
        attacks: such as `PGD`.
        draws: for networks with noise at test: attacks follow the mean gradient over so many draws.
        seed: another seed, other noise and starts.

    Raises:
        InputError: for other severities, nothing to do, and draws below 1.
    """

    def __init__(
        self,
        corruptions: Sequence[Corruption] = (),
        severities: Sequence[int] = (1, 3, 5),
        attacks: Sequence[Attack] = (),
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        wrong = [severity for severity in severities if severity not in range(1, SEVERITIES + 1)]
        if wrong:
            raise InputError(f"Robustness got severities={list(severities)}; they must lie in 1 to {SEVERITIES}")
        if not (corruptions or attacks):
            raise InputError("Robustness got nothing to do; give it corruptions, such as Blur, or attacks, such as PGD")
        if draws < 1:
            raise InputError(f"Robustness got draws={draws}; it must be at least 1")
        self.corruptions, self.severities, self.attacks = tuple(corruptions), tuple(severities), tuple(attacks)
        self.draws, self.seed = draws, seed
        self._means: dict[str, MeanMetric] = {}

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score worse copies of the batch."""
        module: Any = pl_module
        for corruption in self.corruptions:
            for severity in self.severities:
                images = corruption(batch.inputs, severity, batch.ids, self.seed)
                scores = self._scores(module, images, module.key(batch))
                self._count(module, f"accuracy_{corruption.name}_{severity}", _right(scores, batch.targets))
        for attack in self.attacks:
            images = attack(lambda x: self._losses(module, x, batch), batch.inputs, batch.ids, self.seed)
            scores = self._scores(module, images, module.key(batch))
            self._count(module, f"accuracy_{attack.name}", _right(scores, batch.targets))
            losses = F.cross_entropy(scores, batch.targets, reduction="none")
            self._count(module, f"loss_{attack.name}", losses)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the means, and write the table."""
        found = {name: mean.compute() for name, mean in self._means.items()}
        for name, value in found.items():
            pl_module.log(f"test/{name}", value)
        self._means = {}
        if trainer.is_global_zero and trainer.log_dir:
            path = Path(trainer.log_dir) / "robustness.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("measure", "value"))
                writer.writerows((name, float(value)) for name, value in found.items())
            rank_zero_info(f"robustness: {path}")

    def _scores(self, module: Any, images: Tensor, key: Key) -> Tensor:
        with keyed(key), torch.no_grad():
            scores: Tensor = module(images)
        return scores

    def _losses(self, module: Any, images: Tensor, batch: Any) -> Tensor:
        """The loss of each image, the mean over the draws of the network's noise."""
        losses = []
        targets = batch.targets.clone()  # those of inference mode cannot be saved for the way back
        for draw in range(self.draws):
            with keyed(module.key(batch, draw)):
                losses.append(F.cross_entropy(module(images), targets, reduction="none"))
        return torch.stack(losses).mean(0)

    def _count(self, module: L.LightningModule, name: str, values: Tensor) -> None:
        if name not in self._means:
            self._means[name] = MeanMetric().to(module.device)
        self._means[name].update(values)


def _right(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores.argmax(1) == targets).float()
