"""Station: the vector field, told what it is to estimate: noise labels and classes, and how classes are left out."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..types import Tensor, Time
from .embedding import Features, TimeEmbedding
from .hidden import NO_CLASS, hidden

__all__ = ["Condition"]


class Condition(nn.Module):
    """What moves all layers of a denoiser: SiLU of the vector of the noise label, plus that of the class.

    The null class adds nothing, so a network that is not told the class is the unconditional one with the same weights;
    a vector of its own would say nothing that the last bias of the time embedding does not say.

    Args:
        channels: how many features of the noise label.
        width: channels of the result.
        classes: how many classes; None has none.
        label_drop: the probability that training hides the class of a sample.
        features: makes the features of the noise label.

    Raises:
        InputError: for no class, for what is no probability, for hidden classes where there are none; from `forward`,
            for labels where there are no classes, and for classes that there are not.
        ShapeError: from `forward`, for labels of noise or class that do not fit the batch.

    Reference: Ho & Salimans, Classifier-Free Diffusion Guidance, 2022 (arXiv 2207.12598).
    """

    def __init__(self, channels: int, width: int, classes: int | None, label_drop: float, features: Features) -> None:
        super().__init__()
        if classes is not None and classes < 1:
            raise InputError(f"a denoiser got classes={classes}; it needs at least 1, or None for no classes")
        if not 0.0 <= label_drop < 1.0 or (label_drop and classes is None):
            raise InputError(
                f"a denoiser got label_drop={label_drop:g}, classes={classes}; a probability in [0, 1), which "
                "without classes is 0"
            )
        self.classes, self.label_drop = classes, label_drop
        self.time = TimeEmbedding(channels, width, features)
        self.table = None if classes is None else nn.Embedding(classes, width)

    def forward(self, t: Time, batch: int, labels: Tensor | None) -> Tensor:
        """`(batch, width)`, or `(1, width)` where all samples have the same, for noise labels `t` and classes."""
        vector: Tensor = self.time(t)
        if vector.shape[0] not in (1, batch):
            raise ShapeError(f"a denoiser got {vector.shape[0]} noise labels for {batch} samples; one each, or one")
        return F.silu(vector if self.table is None and labels is None else vector + self._of_class(batch, labels))

    def _of_class(self, batch: int, labels: Tensor | None) -> Tensor:
        """The vectors of the classes, zero for the null class."""
        if self.table is None or self.classes is None:
            raise InputError("a denoiser without classes got labels; make it with classes=…, or leave them out")
        if labels is None:  # the table has a part in it all the same: DDP waits for all parameters
            labels = torch.full((batch,), NO_CLASS, device=self.table.weight.device)
        else:
            labels = _checked(labels, batch, self.classes)
            if self.training and self.label_drop:
                labels = hidden(labels, self.label_drop)
        return torch.where((labels >= 0)[:, None], self.table(labels.clamp(min=0)), 0.0)


def _checked(labels: Tensor, batch: int, classes: int) -> Tensor:
    if labels.shape != (batch,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ShapeError(
            f"a denoiser got labels of shape {tuple(labels.shape)} and {labels.dtype} for {batch} samples; it needs "
            f"whole numbers ({batch},)"
        )
    # elsewhere a look would wait for the device, or break the graph: there the table refuses, in torch's words
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and batch and int(labels.max()) >= classes:
        raise InputError(
            f"a denoiser of {classes} classes got the label {int(labels.max())}; {NO_CLASS} is for no class"
        )
    return labels.long()
