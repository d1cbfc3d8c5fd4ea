"""Station: the vector field, in training: classes that it is not told, drawn by the key in force, in graphs as well."""

from __future__ import annotations

from typing import Any

import torch

from ..brownian import next_stream
from ..types import Tensor

__all__ = ["NO_CLASS", "hidden"]

NO_CLASS = -1
"""The label of a sample whose class is not told: the null class of classifier-free guidance."""


def hidden(labels: Tensor, p: float) -> Tensor:
    """The labels `(batch,)`, each replaced by the null class with probability p: the next stream of the key in force.

    In a graph it is one node, which draws anew at each call.
    """
    place = torch.empty(labels.shape, dtype=torch.float32, device=labels.device)  # one's own: equal nodes are merged
    numbers: Tensor = torch.ops.deqlight.uniform(place)
    return labels.masked_fill(numbers < p, NO_CLASS)


def _uniform(like: Tensor) -> Tensor:
    """A number in [0, 1) for each sample, `(batch,)`, drawn on the host, where the key is."""
    return next_stream().uniform(1, like)[:, 0]


_tags = (torch.Tag.__members__.get(name) for name in ("nondeterministic_seeded", "cudagraph_unsafe"))
_library: Any = torch.library.Library("deqlight", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("uniform(Tensor like) -> Tensor", tags=[tag for tag in _tags if tag is not None])  # one is new in torch
_library.impl("uniform", _uniform, "CompositeExplicitAutograd")
torch.library.register_fake("deqlight::uniform", torch.empty_like, lib=_library)
