"""Station: the metrics. What a trained classifier sees in an image: features to compare images by."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import nn

from ..errors import CheckpointError
from ..nets import DepthNet
from ..types import Tensor

__all__ = ["DepthFeatures"]

PREFIX = "net."
"""Under which name a task keeps its network."""


class DepthFeatures(nn.Module):
    """The features of a trained `DepthNet`, which its head would get, averaged over all places: `(batch, channels)`.

    Train a classifier on the data that a generator is to learn, and compare by what it sees. Numbers so made belong to
    that very checkpoint.

    Args:
        net: the network, as it was configured for the training.
        checkpoint: the Lightning checkpoint of a task that has trained it, such as `Classify`; None takes the network
            as it is.

    Raises:
        CheckpointError: for a file that is missing, unreadable, or of another network.
    """

    def __init__(self, net: DepthNet, checkpoint: str | None = None) -> None:
        super().__init__()
        self.net = net
        if checkpoint is not None:
            _load(net, Path(checkpoint))

    def forward(self, x: Tensor) -> Tensor:
        """The features of a batch of inputs `(batch, …)`."""
        features = self.net.features(x)
        return features.flatten(2).mean(2) if features.dim() > 2 else features


def _load(net: nn.Module, path: Path) -> None:
    """Give the network the weights that a task's checkpoint has for it."""
    if not path.is_file():
        raise CheckpointError(f"DepthFeatures: there is no checkpoint {path}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        net.load_state_dict({key[len(PREFIX) :]: w for key, w in weights.items() if key.startswith(PREFIX)})
    except (OSError, EOFError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"DepthFeatures: {path} has no weights of this network ({error}); give the checkpoint of a task that "
            "trained it, and the network as it was configured there"
        ) from error
