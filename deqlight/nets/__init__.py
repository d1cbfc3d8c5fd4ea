"""Networks: an architecture is a term, a solver and a grid."""

from .depth import DepthNet
from .lift import Augment, Identity, Lift, Split, WithVelocity
from .parts import ConvHead, ConvStem, NormHead, Perceptron, PoolHead
from .sde_net import SDENet
from .several import Draws, Ensemble, Several
from .stage import ContinuousStage, LayeredStage, PartitionedStage, SemilinearStage, Stage
from .stochastic import StochasticStage
from .trajectory import Trajectory
from .transition import BottleneckTransition, Transition

__all__ = [
    "Augment",
    "BottleneckTransition",
    "ContinuousStage",
    "ConvHead",
    "ConvStem",
    "DepthNet",
    "Draws",
    "Ensemble",
    "Identity",
    "LayeredStage",
    "Lift",
    "NormHead",
    "PartitionedStage",
    "Perceptron",
    "PoolHead",
    "SDENet",
    "SemilinearStage",
    "Several",
    "Split",
    "Stage",
    "StochasticStage",
    "Trajectory",
    "Transition",
    "WithVelocity",
]
