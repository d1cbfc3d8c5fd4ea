"""Station: the metrics. How well a classifier knows what it knows, and how good a generator's samples are."""

from .collection import uncertainty_metrics
from .detection import AUPR, AUROC, FPR95, OUTSIDE, Detection
from .features import DepthFeatures
from .frechet import FrechetDistance, frechet
from .likelihood import NLL
from .manifold import PrecisionRecall
from .mean import Mean
from .mmd import MMD
from .predictive import DOUBTS, Predictive
from .two_samples import TwoSamples
from .wasserstein import SlicedWasserstein

__all__ = [
    "AUPR",
    "AUROC",
    "DOUBTS",
    "FPR95",
    "MMD",
    "NLL",
    "OUTSIDE",
    "DepthFeatures",
    "Detection",
    "FrechetDistance",
    "Mean",
    "PrecisionRecall",
    "Predictive",
    "SlicedWasserstein",
    "TwoSamples",
    "frechet",
    "uncertainty_metrics",
]
