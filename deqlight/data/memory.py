"""Station: the data. What every data set in memory shares: three parts, an order for each rank, a place to go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from ..errors import InputError
from ..types import Tensor
from .augment import Augmentation, Mixup
from .batches import Dataset, Loader, Order

__all__ = ["InMemory"]


class InMemory(L.LightningDataModule, ABC):
    """A data set in memory, in a training, a validation and a test part.

    The order of the training samples depends on the run's seed (`seed_everything`) and the epoch.

    Args:
        batch_size: samples per batch on each device.
        augment: random changes of the training images, one after the other.
        mixup: mixes each training image with another one; None does not.
    """

    def __init__(self, batch_size: int, augment: Sequence[Augmentation] = (), mixup: Mixup | None = None) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"{type(self).__name__}: batch_size is {batch_size}; at least 1 is needed")
        self.batch_size, self._augment, self._mixup = batch_size, tuple(augment), mixup
        self._parts: dict[str, Tensor] = {}
        self._seed: int | None = None

    @abstractmethod
    def load(self) -> tuple[Dataset, dict[str, Tensor]]:
        """The data, and the positions of `train`, `val` and `test`; the same on every rank.

        A part `predict` may stand beside them; without it the test part is predicted.
        """

    def setup(self, stage: str) -> None:
        """Load the data once; the same parts for every stage."""
        if not self._parts:
            self._dataset, self._parts = self.load()

    def train_dataloader(self) -> Loader:
        """The training part, in a new order each epoch."""
        trainer: Any = self.trainer
        overfit = trainer is not None and bool(trainer.overfit_batches)  # asked for: the same few batches, always
        changes: Any = {} if overfit else {"augment": self._augment, "mixup": self._mixup}
        return Loader(self._dataset, self._order("train", shuffle=not overfit), **changes)

    def val_dataloader(self) -> Loader:
        """The validation part, in a fixed order."""
        return Loader(self._dataset, self._order("val", shuffle=False))

    def test_dataloader(self) -> Loader:
        """The test part, in a fixed order."""
        return Loader(self._dataset, self._order("test", shuffle=False))

    def predict_dataloader(self) -> Loader:
        """The part to be predicted, which is the test part in most data sets, in a fixed order."""
        return Loader(self._dataset, self._order("predict" if "predict" in self._parts else "test", shuffle=False))

    def state_dict(self) -> dict[str, Any]:
        """The seed of the order, so that a resumed run keeps it even under another global seed."""
        return {"seed": self._seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the order of the run that saved `state_dict`."""
        self._seed = state_dict["seed"]

    def _order(self, part: str, *, shuffle: bool) -> Order:
        trainer = self.trainer
        rank, world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        if self._seed is None:  # an unseeded run draws one; the ranks must agree on it
            seed = torch.initial_seed()
            self._seed = seed if trainer is None else int(trainer.strategy.broadcast(seed))
        return Order(self._parts[part], self.batch_size, shuffle=shuffle, seed=self._seed, rank=rank, world=world)
