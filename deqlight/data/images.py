"""Station: the data. Images that need no download."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from ..errors import InputError
from ..types import Tensor
from .batches import Loader, Order, Tensors
from .shift import RandomShift

__all__ = ["Digits"]

INTENSITY = 16.0  # the pixels of the optdigits set count the black cells of a 4x4 block: 0 ... 16


class Digits(L.LightningDataModule):
    """The 1,797 handwritten digits of scikit-learn: real images, 8 by 8, ten classes, nothing to download.

    Pixels are scaled to [0, 1]. The split is stratified by class and depends on `split_seed` alone; the order of the
    training samples depends on the run's seed (`seed_everything`) and the epoch.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), CC BY 4.0.

    Args:
        batch_size: samples per batch on each device.
        val_fraction: share of the data for validation.
        test_fraction: share of the data for the test.
        split_seed: which stratified split.
        shift: shift training images by up to this many pixels each epoch; 0 leaves them as they are.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        shift: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"Digits: batch_size is {batch_size}; at least 1 is needed")
        if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
            raise InputError(
                f"Digits: val_fraction {val_fraction} and test_fraction {test_fraction} leave a part empty; "
                "both must lie above 0 and their sum below 1"
            )
        self.batch_size, self.split_seed, self.shift = batch_size, split_seed, shift
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self._augment = RandomShift(shift) if shift else None
        self._parts: dict[str, Tensor] = {}
        self._seed: int | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 10

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 1

    def setup(self, stage: str) -> None:
        """Load the images and split them; the same split for every stage."""
        if self._parts:
            return
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, targets = load_digits(return_X_y=True)
        inputs = torch.from_numpy(images).float().div_(INTENSITY).reshape(-1, 1, 8, 8)
        self._dataset = Tensors(inputs, torch.from_numpy(targets).long())
        held = self.val_fraction + self.test_fraction
        try:
            train, rest = train_test_split(
                range(len(targets)), test_size=held, stratify=targets, random_state=self.split_seed
            )
            val, test = train_test_split(
                rest, test_size=self.test_fraction / held, stratify=targets[rest], random_state=self.split_seed
            )
        except ValueError as error:
            raise InputError(f"Digits: {len(targets)} samples cannot be split so: {error}") from error
        self._parts = {
            name: torch.tensor(sorted(part)) for name, part in [("train", train), ("val", val), ("test", test)]
        }

    def train_dataloader(self) -> Loader:
        """The training part, in a new order each epoch."""
        trainer: Any = self.trainer
        overfit = trainer is not None and bool(trainer.overfit_batches)  # asked for: the same few batches, always
        return Loader(self._dataset, self._order("train", shuffle=not overfit), None if overfit else self._augment)

    def val_dataloader(self) -> Loader:
        """The validation part, in a fixed order."""
        return Loader(self._dataset, self._order("val", shuffle=False))

    def test_dataloader(self) -> Loader:
        """The test part, in a fixed order."""
        return Loader(self._dataset, self._order("test", shuffle=False))

    def predict_dataloader(self) -> Loader:
        """The test part, in a fixed order."""
        return self.test_dataloader()

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
