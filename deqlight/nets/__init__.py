"""Networks: an architecture is a term, a solver and a grid."""

from .depth import DepthNet
from .lift import Identity, Lift, Split
from .parts import ConvStem, PoolHead, Transition
from .stage import ContinuousStage, LayeredStage, PartitionedStage, SemilinearStage, Stage

__all__ = [
    "ContinuousStage",
    "ConvStem",
    "DepthNet",
    "Identity",
    "LayeredStage",
    "Lift",
    "PartitionedStage",
    "PoolHead",
    "SemilinearStage",
    "Split",
    "Stage",
    "Transition",
]
