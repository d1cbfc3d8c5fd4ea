"""Station: the data. Where a batch begins: each module yields `Batch(inputs, targets, ids)`."""

from .augment import Augmentation, Cutout, Flip, Mixup
from .batches import Batch, Dataset, Loader, Order, Series, Start, Tensors, labelled
from .cifar import CIFAR10, CIFAR100
from .decoded import Images
from .densities import Checkerboard, Density, PinWheel
from .dynamics import Oscillator, Reflection, oscillation
from .images import Digits
from .memory import InMemory
from .mnist import MNIST, FashionMNIST
from .moons import TwoMoons
from .patches import DigitsAgainstPatches
from .photographs import Patches
from .points import Points
from .published import Published
from .shift import RandomShift
from .smeared import EightGaussians, Moons, Rings, Smeared, Spirals
from .stl10 import STL10
from .tiny_imagenet import TinyImageNet

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "STL10",
    "Augmentation",
    "Batch",
    "Checkerboard",
    "Cutout",
    "Dataset",
    "Density",
    "Digits",
    "DigitsAgainstPatches",
    "EightGaussians",
    "FashionMNIST",
    "Flip",
    "Images",
    "InMemory",
    "Loader",
    "Mixup",
    "Moons",
    "Order",
    "Oscillator",
    "Patches",
    "PinWheel",
    "Points",
    "Published",
    "RandomShift",
    "Reflection",
    "Rings",
    "Series",
    "Smeared",
    "Spirals",
    "Start",
    "Tensors",
    "TinyImageNet",
    "TwoMoons",
    "labelled",
    "oscillation",
]
