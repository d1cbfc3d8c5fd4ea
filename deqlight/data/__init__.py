"""Station: the data. Where a batch begins: each module yields `Batch(inputs, targets, ids)`."""

from .batches import Batch, Dataset, Loader, Order, Series, Start, Tensors, labelled
from .dynamics import Oscillator, Reflection, oscillation
from .images import Digits
from .memory import InMemory
from .moons import TwoMoons
from .patches import DigitsAgainstPatches
from .shift import RandomShift

__all__ = [
    "Batch",
    "Dataset",
    "Digits",
    "DigitsAgainstPatches",
    "InMemory",
    "Loader",
    "Order",
    "Oscillator",
    "RandomShift",
    "Reflection",
    "Series",
    "Start",
    "Tensors",
    "TwoMoons",
    "labelled",
    "oscillation",
]
