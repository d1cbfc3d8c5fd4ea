"""Networks: an architecture is a term, a solver and a grid."""

from .bijective import Bijective, Unshuffle, Widen, undo
from .chain import Chain
from .coupling import Coupling, Independent, OptimalTransport
from .denoiser import Denoiser
from .denoising_loss import DenoisingLoss
from .dense import DenseBlock, DenseTransition
from .depth import DepthNet
from .fractal import FractalBlock
from .guidance import ClassifierFree, ClassifierGuidance, Guidance, Told
from .lift import Augment, Identity, Lift, Split, WithVelocity
from .likelihood import bits_per_dim, log_likelihood
from .parts import ConvHead, ConvStem, NormHead, Perceptron, PoolHead
from .post_activation import PlainHead, PostActivation, PostActivationStem
from .sampler import Sampler, Samples
from .sde_net import SDENet
from .several import Draws, Ensemble, Several
from .stage import ContinuousStage, CoupledStage, IMEXStage, LayeredStage, PartitionedStage, SemilinearStage, Stage
from .stochastic import StochasticStage
from .threshold import DynamicThreshold, StaticThreshold, Threshold, Thresholded
from .trace import Exact, Hutchinson, Trace
from .trajectory import Trajectory
from .transition import BottleneckTransition, PartitionedTransition, Transition

__all__ = [
    "Augment",
    "Bijective",
    "BottleneckTransition",
    "Chain",
    "ClassifierFree",
    "ClassifierGuidance",
    "ContinuousStage",
    "ConvHead",
    "ConvStem",
    "CoupledStage",
    "Coupling",
    "Denoiser",
    "DenoisingLoss",
    "DenseBlock",
    "DenseTransition",
    "DepthNet",
    "Draws",
    "DynamicThreshold",
    "Ensemble",
    "Exact",
    "FractalBlock",
    "Guidance",
    "Hutchinson",
    "IMEXStage",
    "Identity",
    "Independent",
    "LayeredStage",
    "Lift",
    "NormHead",
    "OptimalTransport",
    "PartitionedStage",
    "PartitionedTransition",
    "Perceptron",
    "PlainHead",
    "PoolHead",
    "PostActivation",
    "PostActivationStem",
    "SDENet",
    "Sampler",
    "Samples",
    "SemilinearStage",
    "Several",
    "Split",
    "Stage",
    "StaticThreshold",
    "StochasticStage",
    "Threshold",
    "Thresholded",
    "Told",
    "Trace",
    "Trajectory",
    "Transition",
    "Unshuffle",
    "Widen",
    "WithVelocity",
    "bits_per_dim",
    "log_likelihood",
    "undo",
]
