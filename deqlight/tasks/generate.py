"""Station: the task. Generation: a network learns what noise is in noisy data, and a solver makes data of noise."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torchmetrics import MetricCollection

from ..brownian import keyed, next_stream
from ..data import Batch
from ..errors import InputError
from ..metrics import MMD, Mean, PrecisionRecall, SlicedWasserstein
from ..metrics.two_samples import TwoSamples
from ..nets import Denoiser, DenoisingLoss, Sampler
from ..nets.denoiser import check_denoiser
from ..types import Tensor
from .base import Task

__all__ = ["Generate", "Generated"]


class Generated(NamedTuple):
    """What `predict` gives for a batch."""

    ids: Tensor
    """The position in the data set of the sample that this one stands beside, `(batch,)`."""
    samples: Tensor
    """`(batch, *sample)`, as the data are."""


class Generate(Task):
    """Trains a `Denoiser` on data as they are, and tests what a sampler makes of noise with it.

    Logged per epoch, over all ranks: `train/loss`, `val/loss` and `test/loss`, that of the criterion, where validation
    and test see the same times and noise each time; and of the test, which draws as many samples as there are data,
    `test/` and the name of each measure (`test/sliced_wasserstein`), and `nfe/forward`, the network's evaluations for a
    sample. In the test and in `predict`, the sample beside data number i is a function of the seed and i alone, and of
    its class if there is one.

    Args:
        net: the network and what it tells.
        sampler: how samples are drawn.
        optimizer: makes the optimiser from the parameters.
        criterion: times, noise and weights of the training; None is DDPM's, times drawn evenly and errors as they are.
        scheduler: makes the learning rate schedule from the optimiser; None keeps the rate.
        scheduler_interval: whether the schedule counts epochs (`CosineAnnealingLR(T_max=epochs)`) or steps.
        classes: how many classes the network is told of, which are the data's targets; None tells it none.
        shift: what is taken from the data before they are divided by `scale`; given back to samples.
        scale: so that the network sees numbers of variance about 1: for images in [0, 1], 0.5 and 0.5 give [−1, 1].
        measures: what compares samples with the test part; None takes `SlicedWasserstein`, `MMD` and `PrecisionRecall`.
            Their numbers are comparable to none that was measured on other data, features, or numbers of samples.

    Raises:
        InputError: for a network that is no `Denoiser`, no classes, a scale of 0, and numbers that are not finite; for
            a sampler with guidance where the network is told of no classes; from the first batch, for targets that are
            no classes.
    """

    def __init__(
        self,
        net: Denoiser,
        sampler: Sampler,
        optimizer: OptimizerCallable,
        criterion: DenoisingLoss | None = None,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        classes: int | None = None,
        shift: float = 0.0,
        scale: float = 1.0,
        measures: Sequence[TwoSamples] | None = None,
    ) -> None:
        check_denoiser("Generate", net)
        if not (math.isfinite(shift) and 0 < scale < math.inf):
            raise InputError(f"Generate got shift={shift}, scale={scale}; both must be finite, and the scale above 0")
        if classes is not None and classes < 1:
            raise InputError(f"Generate got classes={classes}; it needs at least 1, or None to tell the network none")
        if classes is None and sampler.guidance is not None:
            raise InputError(
                f"Generate got classes=None and a sampler with guidance={sampler.guidance!r}, which would heed "
                "nothing; train with classes, on data whose targets they are, or sample without guidance"
            )
        super().__init__(net, optimizer, scheduler, scheduler_interval, lambda stage: MetricCollection({}))
        chosen = (SlicedWasserstein(), MMD(), PrecisionRecall()) if measures is None else measures
        self.measures = torch.nn.ModuleList(chosen)
        self.sampler, self.criterion = sampler, criterion or DenoisingLoss()
        self.classes, self.shift, self.scale = classes, shift, scale
        self.sample_shape: tuple[int, ...] | None = None

    @property
    def denoiser(self) -> Denoiser:
        """The network and what it tells."""
        return cast(Denoiser, self.net)

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Samples `(batch, *sample)`, as the data are, of standard normal numbers shaped alike."""
        return self.restored(self.sampler(self.denoiser, noise, classes).x)

    def normal(self, data: Tensor) -> Tensor:
        """Data as the network sees them: (data − shift)/scale."""
        return (data - self.shift) / self.scale

    def restored(self, x: Tensor) -> Tensor:
        """What the network makes, as the data are."""
        return x * self.scale + self.shift

    def outputs(self, batch: Batch) -> Tensor:
        """The loss of each sample, `(batch,)`."""
        x0 = self.normal(cast(Tensor, batch.inputs))
        if self.sample_shape is None:
            self._check_classes(batch.targets)
            self.sample_shape = tuple(x0.shape[1:])
        return self.criterion(self.denoiser, x0, self._classes(batch))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of the samples' losses."""
        return outputs.mean()

    def watch(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Nothing but the loss."""
        return {}

    def score(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Nothing: samples are compared in the test alone."""

    def on_train_epoch_end(self) -> None:
        """Log the loss alone: training solves nothing."""
        self._log_means(("train/loss",))
        for name in ("nfe/forward", "nfe/backward"):
            cast(Mean, self.means[name]).reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The loss of one batch, and as many samples, to be compared with it."""
        with keyed(self.key(batch)):
            self._count({"test/loss": self.outputs(batch).mean()}, len(batch.ids))
        samples, nfe = self._drawn(batch)
        for measure in self.measures:
            cast(TwoSamples, measure).update(cast(Tensor, batch.inputs), real=True)
            cast(TwoSamples, measure).update(samples, real=False)
        self._count({"nfe/forward": nfe.float().mean()}, len(batch.ids))

    def on_test_epoch_end(self) -> None:
        """Log the loss, the cost of a sample, and how far samples are from the data."""
        super().on_test_epoch_end()
        for measure in self.measures:
            found = cast(TwoSamples, measure).compute()
            named = found if isinstance(found, dict) else {_snake(type(measure).__name__): found}
            self.log_dict({f"test/{name}": value for name, value in named.items()})
            cast(TwoSamples, measure).reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the shape of a sample, so that samples are drawn where there are no data."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sample_shape"] = self.sample_shape

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Know the shape of a sample."""
        super().on_load_checkpoint(checkpoint)
        shape = checkpoint.get("sample_shape")
        self.sample_shape = None if shape is None else tuple(shape)

    def predict_step(self, batch: Batch, batch_idx: int) -> Generated:
        """A sample beside each of the data, with its id."""
        return Generated(batch.ids, self._drawn(batch)[0])

    def _drawn(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A sample for each of the data, of its class if there is one, and what it cost."""
        with keyed(self.key(batch, draw=1)):
            noise = next_stream().normal(1, cast(Tensor, batch.inputs))[:, 0]
            samples = self.sampler(self.denoiser, noise, self._classes(batch))
        return self.restored(samples.x), samples.nfe

    def _check_classes(self, targets: Tensor) -> None:
        """Look at the first batch: a network told of more classes than there are said to be would learn all the same.

        Raises:
            InputError: for targets that are no numbers of classes.
        """
        if self.classes is None:
            return
        whole = targets.dim() == 1 and not targets.is_floating_point()
        if not whole or int(targets.max()) >= self.classes:
            found = f"up to {int(targets.max())}" if whole else f"{tuple(targets.shape)} of {targets.dtype}"
            raise InputError(
                f"Generate has classes={self.classes} and got targets {found}; classes are whole numbers from 0 to "
                f"{self.classes - 1}, (batch,): give the number that there are, or None to tell the network none"
            )

    def _classes(self, batch: Batch) -> Tensor | None:
        return None if self.classes is None else batch.targets


def _snake(name: str) -> str:
    """`SlicedWasserstein` as `sliced_wasserstein`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
