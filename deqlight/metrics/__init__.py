"""Station: the metrics. How well a classifier knows what it knows, and what it does not."""

from .collection import uncertainty_metrics
from .detection import AUPR, AUROC, FPR95, OUTSIDE, Detection
from .likelihood import NLL
from .mean import Mean
from .predictive import DOUBTS, Predictive

__all__ = [
    "AUPR",
    "AUROC",
    "DOUBTS",
    "FPR95",
    "NLL",
    "OUTSIDE",
    "Detection",
    "Mean",
    "Predictive",
    "uncertainty_metrics",
]
