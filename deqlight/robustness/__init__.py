"""What a network is tried by: images made worse at five severities, and images made worse on purpose."""

from .attacks import FGSM, PGD, Attack
from .corruptions import Blur, Contrast, Corruption, Occlusion, PixelNoise

__all__ = ["FGSM", "PGD", "Attack", "Blur", "Contrast", "Corruption", "Occlusion", "PixelNoise"]
