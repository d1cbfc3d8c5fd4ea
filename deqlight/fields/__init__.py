"""Vector fields: modules `(t, y) -> dy/dt`."""

from .branches import Branches
from .conv import Antisymmetric, Bottleneck, ConcatConv, PreActivation
from .denoising import DenoisingMLP
from .diffusion import AdditiveDiffusion, MatrixDiffusion, MultiplicativeDiffusion
from .embedding import FourierFeatures as FourierFeatures  # these three are parts of fields, for configs
from .embedding import SinusoidalFeatures as SinusoidalFeatures
from .embedding import TimeEmbedding as TimeEmbedding
from .linear import ChannelDecay, PeriodicDiffusion
from .norm import GroupNorm2d as GroupNorm2d  # for configs; no field itself, so not in the list of fields
from .poly import Poly
from .second_order import SecondOrder
from .skew import Skew
from .symmetric import Symmetric
from .unet import UNet
from .vector import MLP

__all__ = [
    "MLP",
    "AdditiveDiffusion",
    "Antisymmetric",
    "Bottleneck",
    "Branches",
    "ChannelDecay",
    "ConcatConv",
    "DenoisingMLP",
    "MatrixDiffusion",
    "MultiplicativeDiffusion",
    "PeriodicDiffusion",
    "Poly",
    "PreActivation",
    "SecondOrder",
    "Skew",
    "Symmetric",
    "UNet",
]
