"""Station: the data. Images that need no download."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..types import Tensor
from .batches import Tensors
from .memory import InMemory
from .shift import RandomShift

__all__ = ["Digits"]

INTENSITY = 16.0  # the pixels of the optdigits set count the black cells of a 4x4 block: 0 ... 16


class Digits(InMemory):
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
        super().__init__(batch_size, [RandomShift(shift)] if shift else [])
        if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
            raise InputError(
                f"Digits: val_fraction {val_fraction} and test_fraction {test_fraction} leave a part empty; "
                "both must lie above 0 and their sum below 1"
            )
        self.split_seed, self.shift = split_seed, shift
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 10

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 1

    def load(self) -> tuple[Tensors, dict[str, Tensor]]:
        """The images, and a stratified split."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, targets = load_digits(return_X_y=True)
        inputs = torch.from_numpy(images).float().div_(INTENSITY).reshape(-1, 1, 8, 8)
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
        parts = {name: torch.tensor(sorted(part)) for name, part in [("train", train), ("val", val), ("test", test)]}
        return Tensors(inputs, torch.from_numpy(targets).long()), parts
