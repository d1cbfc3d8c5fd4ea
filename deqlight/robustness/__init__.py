"""What a network is tried by: images made worse at five severities, and images made worse on purpose."""

from .attacks import FGSM, PGD, Attack
from .classifier import Classifier
from .corruptions import Blur, Brightness, Contrast, Corruption, Occlusion, Pixelate, PixelNoise

__all__ = [
    "FGSM",
    "PGD",
    "Attack",
    "Blur",
    "Brightness",
    "Classifier",
    "Contrast",
    "Corruption",
    "Occlusion",
    "PixelNoise",
    "Pixelate",
]
