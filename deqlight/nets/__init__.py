"""Networks: an architecture is a term, a solver and a grid."""

from .depth import DepthNet
from .lift import Augment, Identity, Lift, Split, WithVelocity
from .parts import ConvStem, PoolHead, Transition
from .stage import ContinuousStage, LayeredStage, PartitionedStage, SemilinearStage, Stage
from .trajectory import Trajectory

__all__ = [
    "Augment",
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
    "Trajectory",
    "Transition",
    "WithVelocity",
]
