"""Station: the data. Where a batch begins: each module yields `Batch(inputs, targets, ids)`."""

from .batches import Batch, Loader, Order, Tensors
from .images import Digits
from .shift import RandomShift

__all__ = ["Batch", "Digits", "Loader", "Order", "RandomShift", "Tensors"]
