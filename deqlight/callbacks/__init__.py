"""Station: what runs beside the training. Checkpoints, guards, stamps and the table at the end."""

from .agreement import of_all_ranks
from .audit import GradientAudit
from .checkpoints import SIGNALS, Best, Last, Stopped
from .finite import FiniteGuard
from .lines import EpochLines
from .manifest import MANIFEST, Manifest
from .parity import CheckpointParity, PluginParity
from .predictions import Predictions
from .robustness import Robustness
from .solves import NFEBudget, SolverStatistics
from .stamp import STAMP, ConfigStamp
from .statistics import RunningStatistics
from .summary import Summary

__all__ = [
    "MANIFEST",
    "SIGNALS",
    "STAMP",
    "Best",
    "CheckpointParity",
    "ConfigStamp",
    "EpochLines",
    "FiniteGuard",
    "GradientAudit",
    "Last",
    "Manifest",
    "NFEBudget",
    "PluginParity",
    "Predictions",
    "Robustness",
    "RunningStatistics",
    "SolverStatistics",
    "Stopped",
    "Summary",
    "of_all_ranks",
]
