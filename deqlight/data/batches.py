"""Station: the data. Batches out of memory, in an order that is a function of (seed, epoch) and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch

from ..errors import InputError
from ..metrics import OUTSIDE
from ..types import Tensor
from .augment import Augmentation, Mixup

__all__ = ["Batch", "Dataset", "Loader", "Order", "Series", "Start", "Tensors", "labelled"]

ORDER, AUGMENT = 0, 1  # separate random streams: turning augmentation on does not change the order


class Start(NamedTuple):
    """What a forecast is made from."""

    x: Tensor
    """What is known at the first time, `(batch, *sample)`."""
    ts: Tensor
    """The times, the first among them: `(time,)`, or `(time, batch)` where each sample has its own."""


class Batch(NamedTuple):
    """What every data module yields."""

    inputs: Tensor | Start
    """`(batch, *sample)`; for a forecast, a start and times."""
    targets: Tensor
    """`(batch, *target)`; class numbers `(batch,)` for classification, `(batch, time, *state)` for a forecast.

    Mixed images have probabilities of the classes, `(batch, classes)`. The class number `OUTSIDE` says that a sample
    belongs to no class.
    """
    ids: Tensor
    """The position of each sample in the data set, `(batch,)`: it keys a sample's noise, whatever its batch mates."""


def labelled(targets: Tensor) -> Tensor | int:
    """How many samples with these targets have one: all but those whose class is `OUTSIDE`."""
    return len(targets) if targets.is_floating_point() else (targets != OUTSIDE).sum()


class Dataset(Protocol):
    """Data in memory; an index tensor gives a batch already collated."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Batch: ...


class Tensors:
    """A data set in memory; an index tensor gives a batch already collated.

    Args:
        inputs: `(samples, *sample)`.
        targets: `(samples, *target)`.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch(self.inputs[index], self.targets[index], index)


class Series:
    """Courses in memory, each with its start; an index tensor gives a batch already collated.

    Args:
        starts: what is known at the first time, `(samples, *sample)`.
        ts: the times of all courses `(time,)`, or of each its own `(samples, time)`.
        values: the courses, `(samples, time, *state)`.
    """

    def __init__(self, starts: Tensor, ts: Tensor, values: Tensor) -> None:
        self.starts, self.ts, self.values = starts, ts, values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Batch:
        ts = self.ts if self.ts.dim() == 1 else self.ts[index].T
        return Batch(Start(self.starts[index], ts), self.values[index], index)


class Order:
    """Which samples go into which batch, on one rank of many.

    Every sample comes exactly once per epoch, over all ranks together, and every rank gets the same number of
    batches: nothing is padded with repeats, so a score over all ranks is the score of the data set. A rest too
    small to give each rank a sample joins the batch before it.

    Args:
        positions: the positions in the data set to draw from, `(samples,)`.
        batch_size: samples per batch on each rank.
        shuffle: whether each epoch has an order of its own.
        seed: with the epoch, all that a shuffled order depends on.
        rank: this process, of `world`.
        world: how many processes share an epoch.
    """

    def __init__(
        self, positions: Tensor, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
        if len(positions) < world:
            raise InputError(f"{len(positions)} samples cannot be shared by {world} processes; use fewer devices")
        self.positions, self.batch_size, self.shuffle = positions, batch_size, shuffle
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls it at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.positions), self.batch_size * self.world)
        return max(1, full + (rest >= self.world))

    def batches(self) -> list[Tensor]:
        """The positions of each batch of this epoch on this rank."""
        order = self.positions
        if self.shuffle:
            order = order[torch.from_numpy(stream(self.seed, self.epoch, ORDER).permutation(len(order)))]
        cuts = [k * self.batch_size * self.world for k in range(1, len(self))]
        return [chunk[self.rank :: self.world] for chunk in torch.tensor_split(order, cuts)]


class Loader:
    """The batches of an epoch, from where the last run left off.

    A checkpoint taken in mid-epoch holds the epoch and the number of batches taken from it; loading it makes the next
    pass over *that* epoch begin behind them. No global random state is touched, so it changes no other draw.

    Args:
        dataset: the data in memory.
        order: which samples, and when.
        augment: random changes of images, one after the other, drawn per (seed, epoch, sample).
        mixup: mixes each image so changed with another one.

    Raises:
        InputError: for two augmentations that would have the same random numbers.
    """

    def __init__(
        self, dataset: Dataset, order: Order, augment: Sequence[Augmentation] = (), mixup: Mixup | None = None
    ) -> None:
        if len({kind.stream for kind in augment}) < len(augment):
            told = ", ".join(type(kind).__name__ for kind in augment)
            raise InputError(f"of the augmentations {told} two have the same random numbers; give each kind once")
        self.order, self._dataset, self._augment, self._mixup = order, dataset, tuple(augment), mixup
        self._taken = 0
        self._resume = {"epoch": -1, "batches": 0}

    @property
    def sampler(self) -> Order:
        """The order, under the name by which the trainer looks for `set_epoch`."""
        return self.order

    @property
    def batch_sampler(self) -> Order:
        """The order, which gives whole batches; the trainer asks every loader that has a sampler for one."""
        return self.order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: the trainer asks for the iterator before it sets the epoch; the order is read at the first batch.
        epoch = self.order.epoch
        first = self._resume["batches"] if self._resume["epoch"] == epoch else 0
        self._resume = {"epoch": -1, "batches": 0}
        changed = self._changes(epoch)
        for number, index in enumerate(self.order.batches()[first:], start=first + 1):
            self._taken = number  # before the batch is handed out: a checkpoint is taken while it is in use
            yield changed(index)

    def _changes(self, epoch: int) -> Callable[[Tensor], Batch]:
        """Draw what is random in an epoch; gives what makes the batch of an index."""
        samples = len(self._dataset)
        drawn = [(kind, kind.draw(self._stream(epoch, kind.stream), samples)) for kind in self._augment]

        def augmented(index: Tensor) -> Batch:
            batch = self._dataset[index]
            for kind, draws in drawn:
                batch = batch._replace(inputs=kind(cast(Tensor, batch.inputs), draws[index]))
            return batch

        mix = self._mixup
        if mix is None:
            return augmented
        partners, shares = mix.draw(self._stream(epoch, mix.stream), self.order.positions, samples)

        def mixed(index: Tensor) -> Batch:
            (own, y, ids), (others, other, _) = augmented(index), augmented(partners[index])
            images = mix.images(cast(Tensor, own), cast(Tensor, others), shares[index])
            return Batch(images, mix.targets(y, other, shares[index]), ids)

        return mixed

    def _stream(self, epoch: int, own: tuple[int, ...]) -> np.random.Generator:
        return stream(self.order.seed, epoch, AUGMENT, *own)

    def state_dict(self) -> dict[str, Any]:
        """Where the current epoch stands."""
        return {"epoch": self.order.epoch, "batches": self._taken % len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._resume = {"epoch": int(state["epoch"]), "batches": int(state["batches"])}


def stream(*key: int) -> np.random.Generator:
    """The random stream of a key: equal keys give equal draws on every machine."""
    return np.random.default_rng([abs(part) for part in key])
