"""Station: what runs beside the test. The network on images made worse, by chance or on purpose."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, permutations
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.nn import functional as F

from ..brownian import Key, keyed
from ..errors import InputError
from ..metrics import OUTSIDE, Mean
from ..robustness import Attack, Classifier, Corruption
from ..robustness.attacks import Losses
from ..robustness.corruptions import SEVERITIES
from ..types import Tensor

__all__ = ["Robustness"]

FORESEEN = -2
"""The first of the steps whose noise attacks see, and those below it: evaluation sees that of another, −1."""

CLEAN = "clean"
SLACK = 0.01
"""By how much of itself a loss may be lower without telling anything: noise at test makes it scatter."""


class Robustness(L.Callback):
    """Tests a classifier of images in [0, 1] on worse ones: `deqlight test` logs `test/accuracy_blur_3` and so on, too.

    Of each attack it logs `test/accuracy_pgd20_0.1` and `test/loss_pgd20_0.1`, the mean loss on the moved images. Where
    that is no higher than on the images as they are, or than that of a weaker attack, it warns: then the attack found
    no gradient to follow, and the accuracy says nothing. A table of all is written as `robustness.csv` into the run's
    folder. Over all ranks; each image's corruption and random start are functions of its place in the data, so that
    neither batch nor number of processes matters. Samples of class −1 are left out.

    Args:
        corruptions: such as `Blur`.
        severities: which of 1 to 5.
        attacks: such as `PGD`.
        draws: for networks with noise at test: attacks follow the mean gradient over so many draws, new ones in each
            step, and none of them that which the attack is then judged by.
        seed: another seed, other noise and starts.

    Raises:
        InputError: for other severities, nothing to do, two attacks of one name, and draws below 1; at the start of the
            test for tasks that are no classifiers, and then for images that are not in [0, 1].
    """

    def __init__(
        self,
        corruptions: Sequence[Corruption] = (),
        severities: Sequence[int] = (1, 3, 5),
        attacks: Sequence[Attack] = (),
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        if not severities or any(severity not in range(1, SEVERITIES + 1) for severity in severities):
            raise InputError(f"Robustness got severities={list(severities)}; they must lie in 1 to {SEVERITIES}")
        if not (corruptions or attacks):
            raise InputError("Robustness got nothing to do; give it corruptions, such as Blur, or attacks, such as PGD")
        if draws < 1:
            raise InputError(f"Robustness got draws={draws}; it must be at least 1")
        self.corruptions, self.severities, self.attacks = tuple(corruptions), tuple(severities), tuple(attacks)
        self.draws, self.seed = draws, seed
        twice = [name for name, times in Counter(self._names()).items() if times > 1]
        if twice:
            raise InputError(f"Robustness got more than one {twice[0]}; each needs a name of its own")
        self._means: dict[str, Mean] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what is no classifier, before the work begins."""
        if stage == "test" and not isinstance(pl_module, Classifier):
            raise InputError(f"Robustness got the task {type(pl_module).__name__}; it tries classifiers of images")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count; on all ranks the same."""
        self._means = {name: Mean().to(pl_module.device) for name in self._names()}

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
        inside = batch.targets != OUTSIDE
        images, targets, ids = batch.inputs[inside], batch.targets[inside], batch.ids[inside]
        if not len(ids):
            return
        key = module.key(batch._replace(inputs=images, targets=targets, ids=ids))

        def losses(moved: Tensor, key: Key) -> Tensor:
            logs = self._logs(trainer, module, moved, key)
            own: Tensor = F.nll_loss(logs, targets.clone(), reduction="none")  # the way back saves no inference tensor
            return own

        def right(worse: Tensor) -> Tensor:
            classes = self._logs(trainer, module, worse, key).argmax(1)
            return torch.eq(classes, targets).float()

        for corruption in self.corruptions:
            for severity in self.severities:
                worse = corruption(images, severity, ids, self.seed)
                self._count(f"accuracy_{corruption.name}_{severity}", right(worse))
        if self.attacks:
            self._count(CLEAN, losses(images, key))
        for attack in self.attacks:
            moved = attack(self._foreseen(losses, key), images, ids, self.seed)
            self._count(f"accuracy_{attack.name}", right(moved))
            self._count(f"loss_{attack.name}", losses(moved, key))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the means, write the table, and warn of attacks that found nothing."""
        found = {name: mean.compute() for name, mean in self._means.items()}
        self._means = {}
        clean = float(found.pop(CLEAN, float("nan")))
        for name, value in found.items():
            pl_module.log(f"test/{name}", value)
        if trainer.is_global_zero and trainer.log_dir:
            path = Path(trainer.log_dir) / "robustness.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("measure", "value"))
                writer.writerows((name, float(value)) for name, value in found.items())
            rank_zero_info(f"robustness: {path}")
        for words in _masked(self.attacks, {a.name: float(found[f"loss_{a.name}"]) for a in self.attacks}, clean):
            rank_zero_warn(words)

    def _names(self) -> list[str]:
        corrupted = [f"accuracy_{c.name}_{severity}" for c in self.corruptions for severity in self.severities]
        attacked = [f"{what}_{attack.name}" for attack in self.attacks for what in ("accuracy", "loss")]
        return corrupted + attacked + [CLEAN] * bool(attacked)  # what an attack's loss is held against

    def _logs(self, trainer: L.Trainer, module: Any, images: Tensor, key: Key) -> Tensor:
        """The logarithm of each image's probabilities, in the precision of the test and by the noise of a key."""
        with keyed(key), trainer.precision_plugin.forward_context():
            logs: Tensor = module.logs(module(images))
        return logs

    def _foreseen(self, losses: Callable[[Tensor, Key], Tensor], key: Key) -> Losses:
        """What an attack makes large: the mean over draws of the network's noise, others at each look."""
        looks = count()

        def mean(images: Tensor) -> Tensor:
            drawn = [losses(images, replace(key, step=FORESEEN - next(looks))) for _ in range(self.draws)]
            return torch.stack(drawn).mean(0)

        return mean

    def _count(self, name: str, values: Tensor) -> None:
        self._means[name].update(values.mean(), len(values))


def _masked(attacks: Sequence[Attack], losses: Mapping[str, float], clean: float) -> Iterator[str]:
    """What is to be said of attacks that found less than nothing, or than weaker ones."""
    end = "; gradients are masked, and its accuracy is no measure of robustness"
    for attack in attacks:
        if losses[attack.name] <= clean:
            yield f"{attack.name}: the loss is {losses[attack.name]:.4g}, on the images as they are {clean:.4g}{end}"
    for weak, strong in permutations(attacks, 2):
        weaker = weak.eps <= strong.eps and weak.steps < strong.steps
        if weaker and losses[strong.name] < (1 - SLACK) * losses[weak.name]:
            less, more = losses[strong.name], losses[weak.name]
            yield f"{strong.name}: the loss is {less:.4g}, of the weaker {weak.name} {more:.4g}{end}"
